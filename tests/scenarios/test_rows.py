"""Every failure that must be named has a scenario, and a counterpart in which the scenario fails without its check."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest

HERE: Final = Path(__file__).parent

NO_CHECK: Final = "there is no check that could be taken away"

ROWS: Final[dict[str, tuple[str, str, str]]] = {
    "1-5, 15, 16 variables, artefacts, tools": (
        "preflight",
        "it_is_found_before_anything_is_started",
        "without_its_check_the_world_would_be_found_good",
    ),
    "6 overridden": (
        "preflight",
        "a_file_that_overrides_the_one_that_was_edited_is_in_the_report",
        "without_the_question_an_overridden_variable_would_not_be_told",
    ),
    "7 manifest": (
        "preflight",
        "an_invalid_manifest_is_refused_with_every_problem",
        "without_its_rules_a_manifest_would_be_read_as_it_is",
    ),
    "7 size and depth": (
        "preflight",
        "a_file_that_is_no_manifest_is_refused_without_a_traceback",
        "without_the_limits_a_file_of_any_size_and_depth_would_be_read",
    ),
    "8 timeouts": (
        "preflight",
        "a_timeout_variable_that_makes_no_sense_is_refused",
        "without_the_validation_a_timeout_that_makes_no_sense_would_be_passed_over",
    ),
    "9 a stranger": (
        "ports",
        "a_stranger_on_the_port_stops_the_deploy_before_anything_starts",
        "without_the_question_about_the_port_a_stranger_is_found_too_late",
    ),
    "10 another address": (
        "ports",
        "a_stranger_on_the_port_stops_the_deploy_before_anything_starts",
        "looking_at_one_address_alone_would_not_find_who_holds_the_others",
    ),
    "11 taken over": (
        "ports",
        "our_own_earlier_release_is_taken_over",
        "without_knowing_our_own_processes_the_earlier_release_would_be_a_stranger",
    ),
    "12 stolen": (
        "identity",
        "a_thief_of_the_port_is_never_taken_for_the_service",
        "without_the_owner_of_the_socket_a_thief_would_not_be_named",
    ),
    "13 a grandchild": (
        "ports",
        "the_grandchild_of_a_killed_wrapper_goes_with_it",
        "a_keeper_that_sees_its_child_alone_would_leave_the_grandchild",
    ),
    "14 not writable": (
        "disk",
        "a_logs_folder_that_cannot_be_written_does_not_keep_the_report_back",
        "without_it_a_folder_that_cannot_be_written_would_be_found_late_or_keep_the_report",
    ),
    "14 full": (
        "disk",
        "a_disk_that_fills_up_while_it_deploys_ends_the_deploy_in_order",
        "without_it_a_disk_that_fills_up_would_go_unnoticed_or_take_the_report",
    ),
    "17, 18 refused": (
        "database",
        "when_the_gate_fails_nothing_else_is_started",
        "without_its_line_a_cause_would_be_named_otherwise",
    ),
    "17 no answer": (
        "database",
        "a_database_that_never_answers_costs_its_limit_and_nothing_more",
        "without_its_deadline_the_gate_would_wait_longer_and_not_say_why",
    ),
    "18 not yet": (
        "database",
        "a_server_that_lets_nobody_in_yet_is_waited_for_and_then_named",
        "without_its_line_what_a_server_says_would_be_any_error",
    ),
    "18 waited for": (
        "database",
        "a_database_that_comes_up_late_is_waited_for",
        "without_the_wait_a_database_that_comes_up_late_would_fail_the_deploy",
    ),
    "19 far": (
        "database",
        "a_far_database_is_slow_and_passes",
        "without_its_patience_a_far_database_would_not_pass_and_without_its_limit_not_be_told",
    ),
    "20 cut": (
        "database",
        "connections_that_are_cut_for_a_while_pass",
        "without_the_wait_cut_connections_would_fail_the_deploy",
    ),
    "21 failed": (
        "database",
        "a_migration_that_fails_leaves_the_services_alone",
        "without_it_the_migrations_would_be_judged_otherwise",
    ),
    "21 dirty": (
        "database",
        "a_half_applied_migration_is_dirty",
        "without_it_the_migrations_would_be_judged_otherwise",
    ),
    "21 drift": (
        "database",
        "a_database_that_newer_code_has_migrated_has_drifted",
        "without_it_the_migrations_would_be_judged_otherwise",
    ),
    "22 our lock": (
        "database",
        "who_holds_the_migration_lock_is_named",
        "without_it_the_migrations_would_be_judged_otherwise",
    ),
    "22 a table's": (
        "database",
        "a_lock_that_keeps_the_tool_waiting_is_named",
        "without_it_the_migrations_would_be_judged_otherwise",
    ),
    "23 hangs": (
        "database",
        "a_migration_tool_that_hangs_is_ended_as_a_tree",
        "without_the_guard_s_last_word_a_hanging_tool_would_leave_its_child",
    ),
    "24 tables": (
        "database",
        "a_table_that_is_not_there_after_the_migrations_is_named",
        "without_it_the_migrations_would_be_judged_otherwise",
    ),
    "25 exits": (
        "exits",
        "a_service_that_ends_ends_the_gate_now",
        "without_hearing_of_the_end_the_gate_would_go_on_asking",
    ),
    "26 not listening": (
        "listening",
        "one_that_listens_on_another_port_is_told_on_which",
        "without_the_socket_table_the_other_port_would_not_be_told",
    ),
    "27 hangs": (
        "listening",
        "one_that_accepts_and_never_answers_hangs",
        "silence_that_is_taken_for_an_answer_would_be_called_unhealthy",
    ),
    "28 identity": (
        "identity",
        "an_answer_that_is_not_the_services_is_refused",
        "without_the_question_who_answers_it_would_pass",
    ),
    "29 unhealthy": ("health", "the_reasons_it_gave_are_told", "without_the_health_questions_they_would_all_pass"),
    "29 recovery": (
        "health",
        "one_recovery_is_attempted_and_then_the_deploy_goes_back",
        "no_recovery_and_two_of_them_would_be_seen",
    ),
    "30 ready, then dead": (
        "exits",
        "ready_and_dead_within_its_first_seconds_is_not_a_success",
        "without_the_stability_window_a_dying_service_would_be_called_live",
    ),
    "31 flaps": (
        "crashes",
        "one_that_is_up_and_away_by_turns_flaps",
        "without_memory_of_its_falls_flapping_would_be_named_otherwise",
    ),
    "32 crash loop": (
        "crashes",
        "a_crash_loop_backs_off_gives_up_and_one_command_clears_it",
        "without_its_rule_a_keeper_would_not_end_a_crash_loop_or_never_begin_anew",
    ),
    "33 memory": (
        "exits",
        "killed_by_the_kernel_for_memory_is_named_so",
        "without_the_word_of_the_kernel_it_would_be_a_signal_like_any_other",
    ),
    "33 perhaps memory": (
        "exits",
        "signal_9_from_nobody_names_memory_as_a_possible_cause",
        "without_the_guess_nobody_would_think_of_memory",
    ),
    "34 slow": (
        "good_deploys",
        "a_slow_boot_inside_its_limit_passes",
        "without_patience_a_slow_boot_would_fail",
    ),
    "35 text": ("good_deploys", "alarming_words_on_its_output_are_not_a_failure", NO_CHECK),
    "36 not installed": (
        "tunnel",
        "a_cloudflared_that_is_not_installed_is_named_before_anything_starts",
        "without_its_preflight_check_a_bad_configuration_comes_to_light_behind_a_started_service",
    ),
    "36 configuration": (
        "tunnel",
        "a_configuration_that_cloudflared_would_refuse_is_refused_before_anything_starts",
        "without_its_preflight_check_a_bad_configuration_comes_to_light_behind_a_started_service",
    ),
    "37 not running": (
        "tunnel",
        "one_that_was_killed_is_not_running_and_is_started",
        "a_product_that_does_not_look_for_the_process_calls_it_something_else",
    ),
    "38 not connected": (
        "tunnel",
        "without_a_way_to_the_edge_it_is_restarted_once_and_no_more",
        "a_blind_product_names_something_else",
    ),
    "39 credentials": (
        "tunnel",
        "credentials_that_the_edge_refuses_are_named_at_once_and_not_tried_again",
        "a_product_that_always_restarts_does_so_for_refused_credentials",
    ),
    "40 origin down": (
        "tunnel",
        "a_service_that_is_down_behind_a_good_tunnel_is_the_services_fault",
        "a_product_that_does_not_ask_the_origin_blames_something_else",
    ),
    "41 another port": (
        "tunnel",
        "a_rule_that_names_another_port_is_shown_with_the_line_to_change",
        "a_blind_product_names_something_else",
    ),
    "42 localhost": (
        "tunnel",
        "localhost_where_the_service_is_on_ipv4_alone_is_named",
        "a_blind_product_names_something_else",
    ),
    "43 stale file": (
        "tunnel",
        "a_file_that_was_edited_since_is_read_by_one_restart",
        "a_product_blind_for_the_files_age_restarts_nothing",
    ),
    "44 no rule": (
        "tunnel",
        "pushed_rules_without_the_name_are_seen_in_the_live_ones",
        "a_blind_product_names_something_else",
    ),
    "45 edge disagrees": (
        "tunnel",
        "a_name_that_leads_to_another_tunnel_is_restarted_once_and_named",
        "a_blind_product_names_something_else",
    ),
    "46 other connector": (
        "tunnel",
        "another_connector_that_takes_its_share_is_named_with_it",
        "a_blind_product_names_something_else",
    ),
    "47 temporary": (
        "tunnel",
        "a_quick_tunnel_in_place_of_the_named_one_is_named",
        "a_blind_product_takes_what_somebody_else_runs_for_something_else",
    ),
    "48 frozen": (
        "tunnel",
        "a_frozen_one_of_ours_is_restarted_once",
        "a_product_that_never_restarts_does_not_cure_a_frozen_one",
    ),
    "49 names": (
        "public",
        "a_name_that_is_not_found_here",
        "without_the_independent_path_a_split_name_would_be_called_something_else",
    ),
    "49-52 what the name shows": (
        "public",
        "a_name_that_does_not_show_this_release_fails_the_deploy",
        "without_its_check_it_would_be_called_something_else",
    ),
    "50-51 a wrong site": (
        "public",
        "a_name_that_does_not_show_this_release_fails_the_deploy",
        "without_its_check_it_would_be_green",
    ),
    "52 certificate": (
        "public",
        "a_certificate_that_proves_nothing_fails_the_deploy",
        "without_the_certificate_a_stranger_would_be_believed",
    ),
    "53 registers late": (
        "public",
        "a_tunnel_that_takes_long_to_register_passes",
        "without_patience_a_slow_registration_would_fail",
    ),
    "54 blips": (
        "public",
        "four_of_a_hundred_lost_pass",
        "without_tolerance_a_blip_would_fail_the_deploy",
    ),
    "55 refused": (
        "interfaces",
        "a_key_that_is_refused_fails_the_deploy",
        "without_the_check_a_refused_key_would_be_called_live",
    ),
    "55 out": (
        "interfaces",
        "an_outage_of_theirs_does_not_take_back_a_good_release",
        "without_the_one_retry_a_bad_moment_would_cost_the_deploy_its_zero",
    ),
    "56 skipped": ("interfaces", "what_is_disabled_is_skipped_with_its_reason", NO_CHECK),
    "57 the key's own host": (
        "interfaces",
        "each_key_comes_to_its_own_host_alone",
        "a_product_that_follows_redirects_is_seen_by_the_witness",
    ),
    "59 clock": (
        "host",
        "a_jump_of_the_wall_clock_ends_no_gate_early_or_late",
        "a_gate_that_went_by_the_wall_clock_would_end_early",
    ),
    "60 descriptors": (
        "host",
        "descriptors_that_run_out_at_a_probe_are_not_the_services_fault",
        "without_knowing_its_own_limits_a_probe_would_blame_the_service",
    ),
    "61 lock held": (
        "lock",
        "a_second_deploy_is_refused_and_told_who_holds_the_lock",
        "without_the_lock_an_order_would_come_between_the_steps_of_a_deploy",
    ),
    "61 holder killed": (
        "lock",
        "a_holder_that_is_killed_frees_the_lock_at_once",
        "a_lock_that_is_a_file_would_outlive_its_holder",
    ),
    "62 killed": (
        "killed",
        "a_first_deploy_killed_behind_any_record_leaves_no_orphan_and_the_next_one_converges",
        "without_it_a_killed_deploy_would_be_told_wrongly",
    ),
    "62 once": (
        "interrupted",
        "ctrl_c_in_any_phase_ends_in_order",
        "without_ears_or_a_way_back_ctrl_c_would_leave_what_was_started",
    ),
    "62 twice": (
        "interrupted",
        "a_second_ctrl_c_abandons_the_rollback_and_says_what_is_left",
        "hearing_only_once_it_would_not_be_abandoned",
    ),
    "62 terminal": (
        "interrupted",
        "a_terminal_that_closes_leaves_a_report_and_no_orphan",
        "deaf_to_the_terminal_a_closed_one_would_kill",
    ),
    "63 keeper killed": (
        "records",
        "a_killed_keeper_loses_neither_the_service_nor_a_second_copy",
        "without_adoption_a_killed_keeper_would_cost_the_process",
    ),
    "64 owned": (
        "ports",
        "what_another_supervisor_looks_after_is_left_to_it",
        "without_its_ancestors_what_pm2_looks_after_would_be_to_be_killed",
    ),
    "65 harmless": (
        "output",
        "escape_sequences_of_a_dying_service_do_not_reach_the_terminal",
        "without_the_spelling_out_the_terminal_would_be_reached",
    ),
    "65 secret": (
        "secrets",
        "what_a_service_answers_is_redacted_too",
        "without_redaction_the_search_finds_the_secret",
    ),
    "66 pids": (
        "records",
        "a_record_whose_pid_is_somebody_elses_signals_nobody",
        "without_the_start_time_the_stranger_would_be_taken_for_ours",
    ),
}
"""By the number and the subject of a failure: the file, the scenario, its counterpart."""


@pytest.mark.parametrize("row", list(ROWS))
def test_a_failure_has_its_scenario_and_its_counterpart(row: str) -> None:
    file, scenario, counterpart = ROWS[row]
    tree = ast.parse((HERE / f"test_{file}.py").read_text())
    there = {one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert f"test_{scenario}" in there
    assert counterpart is NO_CHECK or f"test_{counterpart}" in there


def test_no_number_is_missing() -> None:
    """All but 58, which is a supervisor's to see."""
    numbers: set[int] = set()
    for row in ROWS:
        for part in row.split(" ")[0:3]:
            first, _, last = part.strip(",").partition("-")
            if first.isdigit():
                numbers.update(range(int(first), int(last or first) + 1))
    assert numbers == {*range(1, 58), *range(59, 67)}
