"""A secret reaches the service that is entitled to it, and nothing else that can be read. FAILURES 29, 65."""

from __future__ import annotations

import psutil
import pytest

from support.canaries import CANARY, found_in, spellings
from support.stacks import Stack
from support.verdicts import assert_failed

NAME = "SESSION_SECRET"


def _entitled(stack: Stack, *words: str) -> None:
    stack.environment[NAME] = CANARY
    stack.manifest["env"] = {"require": [NAME]}
    stack.backend(*words, secrets=[NAME])
    stack.frontend()


def test_a_good_deploy_of_a_talkative_service_shows_the_secret_to_nobody(stack: Stack) -> None:
    """It prints its secret in many spellings: none is in a log, a report, the journal, or a stranger's environment."""
    stack.manifest["logs"] = {"max_size": "10KB"}
    _entitled(stack, f"leak={NAME}", "print-lines=3000", f"leak={NAME}")

    deployed = stack.deploy("--verbose")
    assert deployed.exit_code == 0, deployed.output
    said = [deployed, stack.run("logs", "backend"), stack.run("status", "--json"), stack.run("config", "show")]

    own = f"environment of {stack.pid('backend')}"
    places = stack.readable(*said)
    assert CANARY.encode() in places[own], "who is entitled has it"
    assert found_in(places, CANARY, allowed=[own]) == []
    assert stack.log("backend").count("was refused") >= 30, "the rest of each line is there"
    assert len(list((stack.folder / "logs/services").glob("backend*.log"))) > 1, "the log was rotated meanwhile"


def test_a_failed_deploy_shows_it_to_nobody_either(stack: Stack) -> None:
    """Neither its last lines, nor the incident, nor the event log give it away."""
    _entitled(stack, f"leak={NAME}", "exit=3")

    failed = stack.deploy("--json-lines")
    assert stack.failure()["code"] == "SERVICE_EXITED"
    said = [failed, stack.deploy(), stack.run("incidents", "list", "--json"), stack.run("reports", "show", "last")]

    assert found_in(stack.readable(*said), CANARY) == []
    assert any("was refused" in line for line in stack.report()["log_tail"]["backend"])


def test_what_a_service_answers_is_redacted_too(stack: Stack) -> None:
    """A health body with the secret in it: the reasons are told, the secret is not."""
    _entitled(stack, "answer=leaky")
    stack.timeouts(backend_ready="2.5s", recover="1s")

    failed = stack.deploy()

    assert_failed(stack, failed, "SERVICE_UNHEALTHY", "refused: ")
    assert found_in(stack.readable(failed), CANARY) == []


def test_those_who_are_not_entitled_do_not_get_it(stack: Stack) -> None:
    """A frontend, and a backend whose `secrets` are others, have it neither in their environment nor anywhere."""
    _entitled(stack)
    stack.environment["OTHER_TOKEN"] = "of-the-jobs-alone"
    stack.manifest["env"]["require"] = [NAME, "OTHER_TOKEN"]
    stack.service("jobs", secrets=["OTHER_TOKEN"])

    assert stack.deploy().exit_code == 0

    for name in ("frontend", "jobs"):
        assert NAME not in psutil.Process(stack.pid(name)).environ()
    assert psutil.Process(stack.pid("jobs")).environ()["OTHER_TOKEN"] == "of-the-jobs-alone"
    assert "OTHER_TOKEN" not in psutil.Process(stack.pid("backend")).environ()


@pytest.mark.parametrize("spelling", sorted(spellings(CANARY)))
def test_the_search_finds_every_spelling(spelling: str) -> None:
    """What the scenarios above look for would be found if it were there."""
    assert found_in({"a file": b"before " + spellings(CANARY)[spelling] + b" behind"}, CANARY)


def test_without_redaction_the_search_finds_the_secret(stack: Stack) -> None:
    """A product that redacts nothing in its events is caught by the scenarios above."""
    _entitled(stack, "answer=leaky")
    stack.timeouts(backend_ready="2.5s", recover="1s")

    failed = stack.deploy(mutation="from flawless.wiring.stack import Stack\nStack.redact = lambda self, tree: tree")

    assert found_in(stack.readable(failed), CANARY)
