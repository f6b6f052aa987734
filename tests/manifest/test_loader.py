"""Reading the manifest: what it takes, where values come from, and what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from flawless.core.errors import ConfigInvalid
from flawless.core.secret import Secret
from flawless.core.settings import ExecProbe, HttpProbe, LogProbe, MigrationTool, Role, TcpProbe
from flawless.manifest import load

from .conftest import Load, Refuse

SAMPLE = (Path(__file__).parent / "sample.toml").read_text(encoding="utf-8")
SERVICE = '[services.api]\nrole = "backend"\ncommand = ["api"]\n'
CANARY = "canary-5f1d9c27"


def test_the_sample_of_the_contract_is_read_with_every_key(read: Load) -> None:
    """CONTRACTS 3, letter by letter."""
    settings = read(
        SAMPLE, environ={"DATABASE_URL": "postgresql://u:p@h/d", "BASE_URL": "https://shop.example"}
    ).settings
    backend = settings.services["backend"]
    assert (settings.name, settings.base_url) == ("shop", "https://shop.example")
    assert settings.database is not None
    assert settings.database.url == Secret("postgresql://u:p@h/d")
    assert settings.database.migrate is not None
    assert settings.database.migrate.tool is MigrationTool.ALEMBIC
    assert (backend.role, backend.port, backend.command) == (Role.BACKEND, 3001, ("node", "dist/server.js"))
    assert backend.ready[2] == HttpProbe(
        http="/health/status", json={"status": ["healthy", "ready"]}, required=("db", "storage")
    )
    assert backend.restart.delays == (0.0, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
    assert settings.public is not None
    assert [check.optional for check in settings.public.checks] == [False, True]
    assert settings.external.cloudflare is not None
    assert settings.external.cloudflare.token == Secret("")


def test_the_smallest_manifest_has_the_defaults_of_the_contract(read: Load) -> None:
    """A table that is absent is None where its absence means "not checked", else its defaults."""
    settings = read('name = "a"').settings
    absent = (settings.database, settings.tunnel, settings.public, settings.metrics, settings.notify)
    assert absent == (None, None, None, None, None)
    timeouts = settings.timeouts
    assert (timeouts.database, timeouts.migrate, timeouts.backend_ready, timeouts.stop) == (20.0, 120.0, 60.0, 15.0)
    assert (timeouts.tunnel_ready, timeouts.public, timeouts.external, timeouts.stable) == (30.0, 20.0, 10.0, 2.0)
    assert (settings.logs.max_size, settings.logs.keep, settings.supervise.interval) == (10_000_000, 604800.0, 1.0)
    assert settings.env.files == (".env",)


def test_settings_do_not_change_after_they_are_read(read: Load) -> None:
    """Parsed once into frozen values."""
    settings = read('name = "a"').settings
    with pytest.raises(ValidationError):
        settings.name = "b"


def test_each_kind_of_probe_has_its_own_type(read: Load) -> None:
    """http, tcp, exec and log, told apart by their one key."""
    ready = 'port = 1\nready = [{ http = "/", status = [200, 204] }, { tcp = true }, { exec = ["x"] }, { log = "up" }]'
    probes = read(f'name = "a"\n{SERVICE}{ready}').settings.services["api"].ready
    assert probes == (
        HttpProbe(http="/", status=(200, 204)),
        TcpProbe(tcp=True),
        ExecProbe(exec=("x",)),
        LogProbe(log="up"),
    )


def test_what_a_service_leaves_out_comes_from_the_other_tables(read: Load) -> None:
    """stop_timeout from timeouts.stop; a port without probes is asked over tcp; no port, no probe."""
    worker = '[services.mail]\nrole = "worker"\ncommand = ["mail"]\nstop_timeout = "1s"\n'
    services = read(f'name = "a"\n{SERVICE}port = 3001\n{worker}[timeouts]\nstop = "3s"').settings.services
    assert (services["api"].stop_timeout, services["api"].ready) == (3.0, (TcpProbe(tcp=True),))
    assert (services["mail"].stop_timeout, services["mail"].ready) == (1.0, ())


def test_an_interface_takes_the_common_timeout_unless_it_has_its_own(read: Load) -> None:
    """timeouts.external is the default of each."""
    tables = '[external.stripe]\nkey = "k"\n[external.openai]\nkey = "k"\ntimeout = 2\n[timeouts]\nexternal = "4s"'
    external = read(f'name = "a"\n{tables}').settings.external
    assert external.stripe is not None
    assert external.openai is not None
    assert (external.stripe.timeout, external.openai.timeout) == (4.0, 2.0)


# --- where the file is ---


def test_the_manifest_is_looked_for_upward(tmp_path: Path) -> None:
    """From any folder of the project."""
    (tmp_path / "flawless.toml").write_text('name = "a"')
    (tmp_path / "deep" / "er").mkdir(parents=True)
    assert load(tmp_path / "deep" / "er", environ={}).root == tmp_path


def test_a_file_may_be_named(tmp_path: Path) -> None:
    """-c FILE, relative to the start folder."""
    (tmp_path / "other.toml").write_text('name = "b"')
    assert load(tmp_path, file=Path("other.toml"), environ={}).settings.name == "b"


@pytest.mark.parametrize("file", [None, Path("missing.toml"), Path("nul\0.toml")])
def test_no_manifest_leads_to_init(tmp_path: Path, file: Path | None) -> None:
    """The next step is the command that writes one."""
    with pytest.raises(ConfigInvalid) as caught:
        load(tmp_path, file=file, environ={})
    assert "flawless init" in caught.value.next_steps[0]


def test_an_overlay_merges_tables_and_replaces_the_rest(read: Load) -> None:
    """flawless.<environment>.toml: deep into tables, lists and scalars as a whole."""
    overlay = '[services.api]\ncommand = ["gunicorn"]\nenv = { B = "2" }'
    manifest = read(
        f'name = "a"\n{SERVICE}port = 1\nenv = {{ A = "1" }}',
        environment="production",
        files={"flawless.production.toml": overlay},
    )
    api = manifest.settings.services["api"]
    assert (api.command, api.env, api.port) == (("gunicorn",), {"A": "1", "B": "2"}, 1)
    assert str(manifest.origins["services.api.command"]) == "flawless.production.toml:2"
    assert str(manifest.origins["services.api.env.A"]) == "flawless.toml:6"
    assert manifest.files == ("flawless.toml", "flawless.production.toml")


def test_a_problem_points_at_the_file_its_value_came_from(refuse: Refuse) -> None:
    """The overlay's line, not the one it replaced."""
    problems = refuse(
        f'name = "a"\n{SERVICE}port = 1', environment="x", files={"flawless.x.toml": "\n[services.api]\nport = 0"}
    )
    problem = problems["services.api.port"]
    assert (problem.file, problem.line, problem.found) == ("flawless.x.toml", 3, "the number 0")


@pytest.mark.parametrize("environment", ["prod", "../x", "X", "a.b", "\0"])
def test_an_environment_without_overlay_lists_those_there_are(read: Load, environment: str) -> None:
    """A typo is answered with the names that exist."""
    with pytest.raises(ConfigInvalid) as caught:
        read('name = "a"', environment=environment, files={"flawless.production.toml": "", "flawless.test.toml": ""})
    assert "production, test" in str(caught.value)


# --- what cannot be read at all ---


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"x = " + b"[" * 1000, "1000 levels"),
        (b"x = " + b"{a=" * 1000, "1000 levels"),
        (b"[" + b".".join([b"a"] * 1000) + b"]", "1000 levels"),
        (b".".join([b"a"] * 1000) + b" = 1", "1000 levels"),
        (b"#" * (300 * 1024), "more than 256 KiB"),
        (b'name = "a"\nx = "\xff"', "not UTF-8"),
        (b"name = 'a", "(at line 1, column 10)"),
        (b'name = "a"\nport = = 1', "(at line 2, column 8)"),
        (b"x = " + b"9" * 5000, "a number or a date that cannot be"),
        (b"x = 2026-02-31", "(at line 1, column 5)"),
        (b'name = "a"\nname = "b"', "(at line 2"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_refused_with_its_place(tmp_path: Path, text: bytes, found: str) -> None:
    """FAILURES 7: exit 78 and no traceback, however deep, long or broken the file is."""
    (tmp_path / "flawless.toml").write_bytes(text)
    with pytest.raises(ConfigInvalid) as caught:
        load(tmp_path, environ={})
    assert found in caught.value.evidence[0]
    assert caught.value.__cause__ is None


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text", ['x="""' + '\\"' * 130000, "x = '" + "a" * 260000 + "'", "x = '" + "${" * 130000 + "'"]
)
def test_a_hostile_file_is_refused_at_once(refuse: Refuse, text: str) -> None:
    """No pattern is scanned again and again: 256 KiB cost well under a second."""
    assert refuse(text)


def test_a_nesting_of_32_is_read_and_33_is_not(read: Load, refuse: Refuse) -> None:
    """The limit is where the contract says."""
    depth = "{ http = '/', json = " + "{a=" * 28 + "1" + "}" * 28 + "}"
    read(f'name = "a"\n{SERVICE}port = 1\nlive = {depth}')
    assert (
        "33 levels"
        in refuse(f'name = "a"\n{SERVICE}port = 1\nlive = ' + depth.replace("1}", "{a=1}}"))["flawless.toml"].found
    )


def test_a_file_of_the_greatest_size_is_read(read: Load) -> None:
    """256 KiB is within the limit."""
    head = 'name = "a"\n#'
    assert read(head + "x" * (256 * 1024 - len(head))).settings.name == "a"


def test_a_byte_order_mark_does_not_matter(read: Load) -> None:
    """Editors on Windows write one."""
    assert read('\ufeffname = "a"').settings.name == "a"


def _make_folder(path: Path) -> None:
    path.mkdir()


def _make_loop(path: Path) -> None:
    path.symlink_to(path)


def _make_dead_link(path: Path) -> None:
    path.symlink_to("nowhere")


def _make_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes of POSIX")
@pytest.mark.parametrize(
    ("make", "found"),
    [
        (_make_folder, "a directory"),
        (_make_loop, "a loop of symbolic links"),
        (_make_dead_link, "no such file"),
        (_make_pipe, "no regular file"),
    ],
)
def test_what_is_no_file_is_refused_by_what_it_is(tmp_path: Path, make: object, found: str) -> None:
    """A directory, a loop, a dead link; a pipe is not waited for."""
    assert callable(make)
    make(tmp_path / "flawless.toml")
    with pytest.raises(ConfigInvalid) as caught:
        load(tmp_path, environ={})
    assert caught.value.problems[0].found == found


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_a_file_without_the_right_to_read_it_is_refused(tmp_path: Path) -> None:
    """As root the test asks as somebody else."""
    file = tmp_path / "flawless.toml"
    file.write_text('name = "a"')
    file.chmod(0)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(ConfigInvalid) as caught:
            load(Path("/"), file=file, environ={})
    finally:
        os.seteuid(was)
    assert caught.value.exit_code == 78


# --- what is refused, all at once ---

AT = "[external.openai]\nkey = 'k'\nbase_url = "
BASE_URL = "external.openai.base_url"

REFUSED = [
    ("tunel = 1", "tunel", "unknown key", "did you mean tunnel?"),
    ("[timeouts]\ndatabse = 1", "timeouts.databse", "unknown key", "did you mean database?"),
    ("[timeouts]\ndatabase = true", "timeouts.database", "true", None),
    ("[timeouts]\nstable = inf", "timeouts.stable", "the number inf", None),
    ("[timeouts]\nstable = nan", "timeouts.stable", "the number nan", None),
    ("[logs]\nmax_size = '1XB'", "logs.max_size", '"1XB"', None),
    ("[logs]\nmax_size = 1", "logs.max_size", "the number 1", None),
    ("[metrics]\nlisten = '127.0.0.1'", "metrics.listen", '"127.0.0.1"', None),
    ("[metrics]\nlisten = 'a:70000'", "metrics.listen", '"a:70000"', None),
    ("services = 3", "services", "the number 3", None),
    ("[services]\napi = []", "services.api", "an empty list", None),
    ("[services.'B!']\nrole='worker'\ncommand=['x']", 'services."B!"', 'the name "B!"', None),
    ("[env]\nfiles = ['${X}']", "env.files[0]", "a variable", None),
    ("[env]\nrequire = ['A B']", "env.require[0]", '"A B"', None),
    ("[paths]\nwritable = 'logs'", "paths.writable", '"logs"', None),
    ("base_url = 'https:/x'", "base_url", "a text that is no address", None),
    ("[public]\nchecks = [{ url = 'x' }]", "public.checks[0].url", "a text that is no address", None),
    ("[public]\nchecks = [{}]", "public.checks[0].url", "nothing", None),
    ("[public]\nchecks = [{ url = 'https://me:x@h/' }]", "public.checks[0].url", "a user in the address", None),
    ("[public]\nresolve = { 'h' = '127.0.0.1:1' }", "public.resolve.h", "no host and port", None),
    ("[public]\nresolve = { 'h:443' = '127.0.0.1' }", 'public.resolve."h:443"', '"127.0.0.1"', None),
    ("[public]\nresolvers = ['1.1.1.1']", "public.resolvers[0]", '"1.1.1.1"', None),
    ("[public]\nrequests = 19", "public.requests", "the number 19", None),
    ("[external.stripe]\nenabled = false", "external.stripe", "no reason", None),
    ("[external.stripe]", "external.stripe.key", "nothing", None),
    ("[external.strpie]", "external.strpie", "unknown key", "did you mean stripe?"),
    (
        f"{AT}'http://proxy.example.org'",
        BASE_URL,
        "http:// to another machine, which shows the key to all on the way",
        None,
    ),
    (f"{AT}'http://0.0.0.0:80'", BASE_URL, "http:// to another machine, which shows the key to all on the way", None),
    (f"{AT}'https://u:p@proxy.example.org'", BASE_URL, "an address with more than host, port and path", None),
    (f"{AT}'https://proxy.example.org/?to='", BASE_URL, "an address with more than host, port and path", None),
    (f"{AT}'proxy.example.org'", BASE_URL, "a text that is no address", None),
    (f"{AT}'https://proxy.example.org:x'", BASE_URL, "a text that is no address", None),
    (f"{AT}'https://[::1'", BASE_URL, "a text that is no address", None),
    ("[tunnel]\nconfig = 'x'\ntoken = 'y'", "tunnel", "both", None),
    ("[tunnel]\nprovider = 'cloudflare'", "tunnel.provider", '"cloudflare"', 'did you mean "cloudflared"?'),
    ("[database]", "database.url", "nothing", None),
    ("[database]\nurl = ''", "database.url", "nothing", None),
    ("[database]\nurl = 'Embedded'", "database.url", "a text that is neither", None),
    ("[database]\nurl = 'mysql://h/d'", "database.url", "a URL that begins with mysql://", None),
    ("[database]\nurl = 'prisma+postgres://h'", "database.url", "a URL that begins with prisma+postgres://", None),
    ("[database]\nurl = 'embedded'\ndirect_url = 'embedded'", "database.direct_url", '"embedded"', None),
    ("[database]\nurl = 'embedded'\n[database.migrate]\ntool = 'command'", "database.migrate", "no 'apply'", None),
    ("[database]\nurl = 'embedded'\n[database.migrate]\ntool = 'x'", "database.migrate.tool", '"x"', None),
    ("[artefacts.a]\nbuild = ['x']", "artefacts.a.path", "nothing", None),
    ("day = 2026-01-01", "day", "unknown key", None),
]


@pytest.mark.parametrize(("text", "path", "found", "suggestion"), REFUSED)
def test_a_wrong_key_or_value_is_refused(
    refuse: Refuse, text: str, path: str, found: str, suggestion: str | None
) -> None:
    """Each with its path, what was found, what is allowed, and what was probably meant."""
    problem = refuse(f'name = "a"\n{text}')[path]
    assert problem.found == found
    assert problem.allowed
    assert problem.suggestion == suggestion
    assert problem.file == "flawless.toml"
    assert problem.line is not None


SERVICE_REFUSED = [
    ("role = 'bakend'", "role", '"bakend"'),
    ("command = 'npm start'", "command", '"npm start"'),
    ("command = []", "command", "an empty list"),
    ("command = ['']", "command", "a list"),
    ("port = true", "port", "true"),
    ("port = 0", "port", "the number 0"),
    ("port = 65536", "port", "the number 65536"),
    ("port = 80.5", "port", "the number 80.5"),
    ("port = 'http'", "port", '"http"'),
    ("port = '${PORT}'", "port", "nothing: PORT is not set"),
    ("env = { N = 4 }", "env.N", "the number 4"),
    ("env = { 'A=B' = '4' }", 'env."A=B"', 'the name "A=B"'),
    ('env = { A = "x\\u0000" }', "env.A", "a NUL byte"),
    ("after = ['ap']", "after[0]", 'the unknown service "ap"'),
    ("after = ['api']", "after", "a cycle: api -> api"),
    ("ready = [{}]", "ready[0]", "none of these"),
    ("ready = [{ http = '/', tcp = true }]", "ready[0]", "http and tcp"),
    ("ready = ['x']", "ready[0]", '"x"'),
    ("ready = [{ http = 'x' }]", "ready[0].http", '"x"'),
    ("ready = [{ tcp = false }]", "ready[0].tcp", "false"),
    ("ready = [{ exec = 'x' }]", "ready[0].exec", '"x"'),
    ("ready = [{ log = '(' }]", "ready[0].log", '"("'),
    ("ready = [{ http = '/', statuz = 1 }]", "ready[0].statuz", "unknown key"),
    ("ready = [{ http = '/', status = 99 }]", "ready[0].status", "the number 99"),
    ("ready = [{ tcp = true, required = [] }]", "ready[0].required", "unknown key"),
    ("ready = [{ http = '/' }]", "", "no port"),
    ("live = { log = 'x' }", "live", "a log probe, which cannot be asked twice"),
    ("restart = { delays = [] }", "restart.delays", "an empty list"),
    ("restart = { delays = ['2h'] }", "restart.delays[0]", '"2h"'),
    ("restart = { limit = 0 }", "restart.limit", "the number 0"),
    ("stop_timeout = '5 parsecs'", "stop_timeout", '"5 parsecs"'),
]


@pytest.mark.parametrize(("line", "path", "found"), SERVICE_REFUSED)
def test_a_wrong_service_is_refused(refuse: Refuse, line: str, path: str, found: str) -> None:
    """Ports, commands, probes, order, restarts."""
    base = {"role": "role = 'backend'", "command": "command = ['api']"}
    base[line.split(" ", maxsplit=1)[0]] = line
    problems = refuse('name = "a"\n[services.api]\n' + "\n".join(base.values()))
    assert problems[f"services.api.{path}".rstrip(".")].found == found


def test_all_problems_are_told_at_once(refuse: Refuse) -> None:
    """A wrong type hides neither another one nor a rule between tables."""
    problems = refuse(
        """
        name = "A"
        base_url = "x"
        [services.a]
        role = "backend"
        command = "a"
        port = 80
        after = ["b"]
        [services.b]
        role = "worker"
        command = ["b"]
        port = "80"
        after = ["a"]
        [timeouts]
        stop = "0s"
        """,
        environ={"FLAWLESS_TIMEOUT_PUBLIC": "0"},
    )
    assert set(problems) == {
        "name",
        "base_url",
        "services.a.command",
        "services.b.port",
        "services.a.after",
        "timeouts.stop",
        "FLAWLESS_TIMEOUT_PUBLIC",
    }
    assert problems["services.a.after"].found == "a cycle: a -> b -> a"
    assert problems["services.b.port"].found == "port 80, which services.a.port has too"


def test_two_cycles_are_two_problems_and_a_long_way_is_none(refuse: Refuse, read: Load) -> None:
    """Each cycle is shown once; what merely leads into one is not called one."""

    def service(name: str, *after: str) -> str:
        return f'[services.{name}]\nrole = "worker"\ncommand = ["x"]\nafter = {list(after)}\n'

    cycles = service("a", "b") + service("b", "a") + service("c", "d") + service("d", "c") + service("e", "a")
    assert set(refuse(f'name = "x"\n{cycles}')) == {"services.a.after", "services.c.after"}
    read('name = "x"\n' + service("a", "b", "c") + service("b", "c") + service("c"))


def test_a_backend_cannot_wait_for_what_starts_after_it(refuse: Refuse) -> None:
    """The phases have an order of their own."""
    front = '[services.web]\nrole = "frontend"\ncommand = ["web"]'
    assert "services.api.after[0]" in refuse(f'name = "a"\n{SERVICE}after = ["web"]\n{front}')


# --- timeouts from the environment ---


@pytest.mark.parametrize("value", ["0", "-1", "nan", "5 parsecs", "1e999", "", " ", "inf", "2h", "9" * 500])
def test_a_wrong_timeout_variable_is_refused_with_its_name_value_and_range(refuse: Refuse, value: str) -> None:
    """FAILURES 8: never repaired silently."""
    problem = refuse('name = "a"', environ={"FLAWLESS_TIMEOUT_BACKEND_READY": value})["FLAWLESS_TIMEOUT_BACKEND_READY"]
    assert value[:50] in problem.found
    assert "10ms to 1h" in problem.allowed
    assert problem.file == "process environment"


def test_a_timeout_variable_wins_over_the_manifest(read: Load) -> None:
    """FLAWLESS_TIMEOUT_<NAME>, from the process or a .env file."""
    manifest = read(
        'name = "a"\n[timeouts]\ndatabase = "5s"',
        environ={"FLAWLESS_TIMEOUT_DATABASE": "90s"},
        files={".env": "FLAWLESS_TIMEOUT_STOP=1s\n"},
    )
    assert (manifest.settings.timeouts.database, manifest.settings.timeouts.stop) == (90.0, 1.0)
    assert str(manifest.origins["timeouts.database"]) == "process environment"
    assert str(manifest.origins["timeouts.stop"]) == ".env:1"


def test_an_unknown_timeout_variable_is_an_error_with_a_suggestion(refuse: Refuse) -> None:
    """A typo must not mean "the default"."""
    problem = refuse('name = "a"', environ={"FLAWLESS_TIMEOUT_DATABSE": "1s"})["FLAWLESS_TIMEOUT_DATABSE"]
    assert problem.suggestion == "did you mean FLAWLESS_TIMEOUT_DATABASE?"


# --- the embedded database ---


def test_only_the_word_in_the_manifest_selects_the_embedded_database(read: Load, refuse: Refuse) -> None:
    """DESIGN 5: never a missing or substituted variable."""
    database = read('name = "a"\n[database]\nurl = "embedded"').settings.database
    assert database is not None
    assert database.embedded
    for template in ("${D}", "${E:-embedded}", "embed${F}"):
        problems = refuse(f'name = "a"\n[database]\nurl = "{template}"', environ={"D": "embedded", "F": "ded"})
        assert "which a variable brought" in problems["database.url"].found


def test_a_missing_database_url_is_unresolved_and_never_embedded(read: Load) -> None:
    """For the preflight check to report."""
    manifest = read('name = "a"\n[database]\nurl = "${DATABASE_URL:?set it in .env}"')
    assert manifest.settings.database is not None
    assert not manifest.settings.database.url
    assert not manifest.settings.database.embedded
    [missing] = manifest.unresolved
    assert (missing.path, missing.name, missing.message) == ("database.url", "DATABASE_URL", "set it in .env")


def test_a_listed_secret_without_value_is_unresolved_and_a_disabled_interface_needs_none(read: Load) -> None:
    """What is declared is never skipped silently; what is disabled is not asked for."""
    manifest = read(
        f'name = "a"\n{SERVICE}secrets = ["SMTP", "BLANK"]\n'
        '[external.stripe]\nenabled = false\nreason = "later"\nkey = "${STRIPE}"\n',
        environ={"BLANK": " "},
    )
    assert [(missing.path, missing.name, missing.blank) for missing in manifest.unresolved] == [
        ("services.api.secrets[0]", "SMTP", False),
        ("services.api.secrets[1]", "BLANK", True),
    ]


@pytest.mark.parametrize("url", ["prisma+postgres://h", "https:/x", "mysql://h"])
def test_a_wrong_url_from_a_variable_is_left_to_the_preflight_check(read: Load, url: str) -> None:
    """ENV_MALFORMED there, not CONFIG_INVALID here."""
    manifest = read('name = "a"\n[database]\nurl = "${DATABASE_URL}"', environ={"DATABASE_URL": url})
    assert manifest.settings.database is not None
    assert manifest.settings.database.url == Secret(url)


# --- secrets in refusals ---


@pytest.mark.parametrize(
    "text",
    [
        "[services.api]\nrole = '${API_KEY}'\ncommand = ['x']",
        "[services.api]\nrole = 'worker'\ncommand = 'run --key ${API_KEY}'",
        "[services.api]\nrole = 'worker'\ncommand = ['x']\nport = '${API_KEY}'",
        "[services.api]\nrole = 'worker'\ncommand = ['x']\nafter = ['${API_KEY}']",
        "[timeouts]\nstop = '${API_KEY}'",
        "[metrics]\nlisten = 'x${API_KEY}'",
        "[database]\nurl = 'mysql://u:canary-5f1d9c27@h/d'",
        "[admin]\npassword = ['canary-5f1d9c27']",
        "base_url = 'x://u:canary-5f1d9c27@h'",
        "[paths]\nwritable = 'http://u:canary-5f1d9c27@h'",
        "[tunnel]\nconfig = 'c'\ntoken = 'canary-5f1d9c27'",
        "[services.api]\nrole = 'worker'\ncommand = 'psql postgresql://u:canary-5f1d9c27@h/d'",
        "[admin]\npasswort = 'canary-5f1d9c27'",
    ],
)
def test_no_refusal_shows_a_secret(read: Load, text: str) -> None:
    """Neither in the problems nor in what Python would print of the error."""
    with pytest.raises(ConfigInvalid) as caught:
        read(f'name = "a"\n{text}', environ={"API_KEY": CANARY})
    assert CANARY not in repr([caught.value, caught.value.problems, caught.value.evidence, caught.value.next_steps])
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:1/v1", "https://proxy.example.org:8443/stripe/"],
)
def test_a_key_may_go_to_this_machine_in_the_clear_and_anywhere_over_tls(read: Load, address: str) -> None:
    """A stand-in on loopback, or a proxy of one's own."""
    external = read(f"name = 'a'\n{AT}'{address}'").settings.external
    assert external.openai is not None
    assert external.openai.base_url == address


def test_a_variable_cannot_bring_an_address_that_would_show_the_key(refuse: Refuse) -> None:
    """Whoever names the place a key is sent to, the rule holds; what it named is not repeated."""
    error = refuse(f"name = 'a'\n{AT}'${{PROXY}}'", environ={"PROXY": f"http://u:{CANARY}@proxy.example.org"})
    assert list(error) == [BASE_URL]
    assert CANARY not in str(error)
