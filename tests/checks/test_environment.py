"""FAILURES 1 to 6: what is wrong with variables is named, all at once, without their values; what is right passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flawless.checks.environment import (
    Address,
    KeyModeRight,
    OverridesSaid,
    PasswordStrong,
    VariablesFilled,
    VariablesFormed,
    VariablesPresent,
    VariablesReal,
)
from flawless.checks.placeholder import placeholder_in
from flawless.core.check import Check, Failed, Passed
from flawless.core.reason import Reason
from flawless.manifest import Manifest
from support.manifests import manifest_in

pytestmark = pytest.mark.anyio

ALL = (VariablesPresent, VariablesFilled, VariablesReal, VariablesFormed, PasswordStrong, KeyModeRight)
LIVE = "sk_live_51H8xQ2eZvKYlo2CabcdEFGH"
TEST = "sk_test_51H8xQ2eZvKYlo2CabcdEFGH"
WEBHOOK = "whsec_5WbX5kEWLlfzsGNjH64I8lOOqUB6e8FH"


async def failed(check: Check) -> Failed:
    outcome = await check.ask(1)
    assert isinstance(outcome, Failed), outcome
    return outcome


async def codes(manifest: Manifest) -> set[Reason]:
    outcomes = [await kind(manifest).ask(1) for kind in ALL]
    return {one.reason for one in outcomes if isinstance(one, Failed)}


def require(*names: str) -> str:
    return f"[env]\nrequire = {list(names)}\n"


async def test_all_that_is_missing_is_named_at_once(tmp_path: Path) -> None:
    """Every missing variable is named in one failure, with who wants it and each file that was looked in."""
    text = (
        '[env]\nfiles = [".env", ".env.local"]\nrequire = ["OPENAI_API_KEY", "BASE_URL", "SET"]\n'
        '[database]\nurl = "${DATABASE_URL:?where the shop keeps its data}"\n'
    )
    manifest = manifest_in(tmp_path, text, env="SET=1\nOPENAI_APIKEY=x\n")
    failure = await failed(VariablesPresent(manifest))
    assert failure.reason is Reason.ENV_MISSING
    assert failure.cause == "3 required variables are not set: OPENAI_API_KEY, BASE_URL, DATABASE_URL"
    assert "looked in: .env, .env.local (no such file), the process environment" in failure.evidence
    assert "DATABASE_URL is wanted by database.url: where the shop keeps its data" in failure.evidence
    assert "OPENAI_API_KEY is wanted by env.require; OPENAI_APIKEY is set, did you mean that?" in failure.evidence


async def test_the_process_environment_counts(tmp_path: Path) -> None:
    """A required variable that only the process has is set."""
    manifest = manifest_in(tmp_path, require("BASE_URL"), environ={"BASE_URL": "https://shop.example.org"})
    assert await codes(manifest) == set()


@pytest.mark.parametrize("line", ["OPENAI_API_KEY=", "OPENAI_API_KEY='   '", 'OPENAI_API_KEY=""', "OPENAI_API_KEY"])
async def test_blank_is_not_set(tmp_path: Path, line: str) -> None:
    """Present but blank is ENV_BLANK with its line, and nothing else."""
    manifest = manifest_in(tmp_path, require("OPENAI_API_KEY"), env=f"# keys\n{line}\n")
    assert await codes(manifest) == {Reason.ENV_BLANK}
    failure = await failed(VariablesFilled(manifest))
    assert failure.cause == "1 required variable is blank: OPENAI_API_KEY"
    assert ".env:2" in failure.evidence[0]


async def test_missing_and_blank_stand_side_by_side(tmp_path: Path) -> None:
    """Several codes are told of one environment, each by its own check."""
    text = require("A_KEY", "B_KEY", "C_KEY", "ADMIN_PASSWORD")
    manifest = manifest_in(tmp_path, text, env="B_KEY=\nC_KEY=changeme\nADMIN_PASSWORD=short\n")
    assert await codes(manifest) == {Reason.ENV_MISSING, Reason.ENV_BLANK, Reason.ENV_PLACEHOLDER, Reason.ENV_WEAK}


@pytest.mark.parametrize(
    "value",
    [
        *("changeme", "CHANGE_ME", "change-me-in-production", "changeme123", "please_change_this", "replace-me"),
        *("sk_test_xxx", "sk_live_XXXXXXXXXXXX", "whsec_xxx", "xxx", "xxxxxxxx", "xxx-xxx-xxx", "sk-..."),
        *("sk_test_changeme", "sk_live_****1234", "********", "whsec_…"),
        *("your-key-here", "your_api_key", "sk-your-openai-key", "YOUR_STRIPE_SECRET_KEY", "insert-key-here"),
        *("<your key>", "<...>", "<STRIPE_SECRET_KEY>", "{{api_key}}", "[YOUR-PASSWORD]", "sk_test_<key>"),
        *("TODO", "todo: ask Anna", "FIXME", "TBD", "example", "example-key", "test_example", "dummy-key"),
        *("postgresql://<user>:<password>@<host>/db", "postgresql://postgres:[YOUR-PASSWORD]@db.x.org:5432/postgres"),
        *("https://your-domain.com", "https://www.yourdomain.com", "https://<host>", "undefined"),
        *("https://<host>:8443/x", "https://x.org/hooks/<token>", "https://x.org/?key={your_key}", "  <KEY> "),
    ],
)
async def test_placeholders(tmp_path: Path, value: str) -> None:
    """A placeholder is ENV_PLACEHOLDER, said once, by name and line, and never repeated."""
    manifest = manifest_in(tmp_path, require("SOME_KEY"), env=f'SOME_KEY="{value}"\n')
    assert await codes(manifest) == {Reason.ENV_PLACEHOLDER}
    failure = await failed(VariablesReal(manifest))
    assert "SOME_KEY (.env:1)" in failure.evidence[0]
    assert value not in " ".join((failure.cause, *failure.evidence, *failure.next_steps))


@pytest.mark.parametrize(
    "value",
    [
        *(LIVE, TEST, WEBHOOK, "sk-proj-9f8Tn3xxxJk2_mQ-xX0xxx1abcdEFGH", "rk_live_51HxxxQ2eZvKYlo2C"),
        *("all-your-base-are-belong-to-us", "correct horse battery staple", "exchange-meter-9000", "todolist-2024-ok"),
        *("https://my-app.example.org", "https://book-your-hotel-service.com", "https://example.org/xxx/y"),
        *(
            "postgresql://app:changeme@127.0.0.1:5432/app",
            "3001",
            "production",
            "a<b>c9",
            "Zm9vYmFy/xxxQ==",
            "[::1]:80",
        ),
        *(r'can"ary\/+& <SEcret>42==', "x9K<q2>LLp0aa77", "ab<password>cd", "p[key]q", 'x{"token"}y', "k<secret>"),
        *("postgresql://app:a<b>c<key>9@h/db", "http://[::1]:4830/x", '["a", "b"]', "[1, 2]", "https://x.org/a<key>b"),
        *("-----BEGIN KEY-----", '{"type": "service_account"}', "../data", "eyJhbGciOiJIUzI1NiJ9.e30.abc"),
    ],
)
def test_no_real_value_is_taken_for_a_placeholder(value: str) -> None:
    """Values that merely contain such letters pass."""
    assert placeholder_in(value) is None


STRIPE = '[external.stripe]\nkey = "${STRIPE_SECRET_KEY}"\nwebhook_secret = "${STRIPE_WEBHOOK_SECRET}"\n'


@pytest.mark.parametrize(
    ("text", "env", "named", "said"),
    [
        (
            STRIPE,
            f"STRIPE_SECRET_KEY={WEBHOOK}\nSTRIPE_WEBHOOK_SECRET={WEBHOOK}",
            "STRIPE_SECRET_KEY",
            "webhook secret",
        ),
        (STRIPE, f"STRIPE_SECRET_KEY={LIVE}\nSTRIPE_WEBHOOK_SECRET={LIVE}", "STRIPE_WEBHOOK_SECRET", "whsec_..."),
        (
            STRIPE,
            f"STRIPE_SECRET_KEY=pk_live_abcdefgh\nSTRIPE_WEBHOOK_SECRET={WEBHOOK}",
            "STRIPE_SECRET_KEY",
            "publishable",
        ),
        (STRIPE, f"STRIPE_SECRET_KEY='{LIVE} '\nSTRIPE_WEBHOOK_SECRET={WEBHOOK}", "STRIPE_SECRET_KEY", "spaces around"),
        (require("STRIPE_SECRET_KEY"), f"STRIPE_SECRET_KEY={WEBHOOK}", "STRIPE_SECRET_KEY", "sk_live_..."),
        (require("STRIPE_WEBHOOK_SECRET"), f"STRIPE_WEBHOOK_SECRET={TEST}", "STRIPE_WEBHOOK_SECRET", "whsec_..."),
        (require("OPENAI_API_KEY"), f"OPENAI_API_KEY={TEST}", "OPENAI_API_KEY", "sk-..."),
        ('[external.openai]\nkey = "${K}"\n', "K=abcdefghijkl", "K", "an OpenAI key, sk-..."),
        ('[database]\nurl = "${U}"\n', "U=prisma+postgres://accelerate.x.net/?api_key=abc", "U", "prisma+postgres://"),
        (
            require("DATABASE_URL"),
            "DATABASE_URL=prisma+postgres://x.net/?api_key=abc",
            "DATABASE_URL",
            "prisma+postgres",
        ),
        (require("DATABASE_URL"), "DATABASE_URL=postgres:/u:p@h/d", "DATABASE_URL", "no URL"),
        (require("DATABASE_URL"), "DATABASE_URL=https://db.shop.org", "DATABASE_URL", "a web address"),
        ('[database]\nurl = "${U}"\n', "U=mysql://u:p@h/d", "U", "postgresql://"),
        ('[database]\nurl = "${U}"\n', "U=postgresql://u:p@h:port/d", "U", "port"),
        ('base_url = "${B}"\n', "B=https:/x", "B", "no host"),
        ('base_url = "${B}"\n', "B=shop.org", "B", "does not begin with https://"),
        ('base_url = "${B}"\n', "B=https://shop.org:99999", "B", "port"),
        (require("BASE_URL"), "BASE_URL=https:/x", "BASE_URL", "https://host"),
        (require("BASE_URL"), "BASE_URL=localhost:3000", "BASE_URL", "https://host"),
    ],
)
async def test_malformed(tmp_path: Path, text: str, env: str, named: str, said: str) -> None:
    """A value of the wrong form is ENV_MALFORMED with the form that was expected, never with the value."""
    manifest = manifest_in(tmp_path, text, env=env + "\n")
    assert await codes(manifest) == {Reason.ENV_MALFORMED}
    failure = await failed(VariablesFormed(manifest))
    assert failure.cause == f"1 value is not in the expected form: {named}"
    told = " ".join((failure.cause, *failure.evidence, *failure.next_steps))
    assert said in told
    assert manifest.variables[named].reveal() not in told.replace("https://host", "")


@pytest.mark.parametrize(
    ("text", "env"),
    [
        (STRIPE, f"STRIPE_SECRET_KEY={LIVE}\nSTRIPE_WEBHOOK_SECRET={WEBHOOK}"),
        (STRIPE, f"STRIPE_SECRET_KEY=rk_live_abcdefgh1234\nSTRIPE_WEBHOOK_SECRET={WEBHOOK}"),
        (
            STRIPE + 'base_url = "http://127.0.0.1:1"\n',
            "STRIPE_SECRET_KEY=proxy-key\nSTRIPE_WEBHOOK_SECRET=proxy-secret",
        ),
        ('[external.stripe]\nkey = "${K}"\nenabled = false\nreason = "later"\n', "K=changeme"),
        ('[external.stripe]\nkey = "${K}"\nenabled = false\nreason = "later"\n', ""),
        ('[external.cloudflare]\ntoken = "${K}"\noptional = true\n', ""),
        (require("OPENAI_API_KEY"), "OPENAI_API_KEY=a-proxy-of-ours-8f7d"),
        (require("DATABASE_URL"), "DATABASE_URL=postgresql+asyncpg://u:p@h/d"),
        (require("DATABASE_URL"), "DATABASE_URL=file:./dev.db"),
        ('[database]\nurl = "embedded"\n', "DATABASE_URL=file:./dev.db"),
        ('[database]\nurl = "${U}"\n', "U=postgres://u:p%40ss@a,b:5433/d?sslmode=require&pgbouncer=true"),
        ('base_url = "http://127.0.0.1:${P:-3000}/"\n', ""),
        ('base_url = "${B}"\n', "B=http://[::1]:3000"),
        ("", "UNUSED=TODO\nTITLE=example\nNOTE=changeme"),
    ],
)
async def test_no_false_alarm(tmp_path: Path, text: str, env: str) -> None:
    """Good values pass every question; what is disabled, optional, or nobody's business is not judged."""
    assert await codes(manifest_in(tmp_path, text, env=env + "\n")) == set()


@pytest.mark.parametrize(("length", "found"), [(0, set()), (11, {Reason.ENV_WEAK}), (12, set())])
async def test_admin_password(tmp_path: Path, length: int, found: set[Reason]) -> None:
    """Under 12 characters is ENV_WEAK; not set at all is a choice."""
    manifest = manifest_in(tmp_path, '[admin]\npassword = "${PW:-}"\n', env=f"PW={'q' * length}\n")
    assert await codes(manifest) == found


@pytest.mark.parametrize(
    ("key", "base_url", "environment", "wrong"),
    [
        (TEST, "https://shop.example.org", None, True),
        (TEST, "https://shop.com", "production", True),
        (LIVE, "http://127.0.0.1:3000", None, True),
        (LIVE, "http://localhost:3000", None, True),
        (LIVE, "http://[::1]:3000", None, True),
        (TEST, "https://shop.com", "staging", False),
        (TEST, "https://staging.shop.com", None, False),
        (TEST, "https://shop-dev.onrender.com", None, False),
        (TEST, "https://abc.trycloudflare.com", None, False),
        (TEST, "https://10.0.0.7", None, False),
        (TEST, "https://box.local", None, False),
        (TEST, "http://127.0.0.1:3000", None, False),
        (TEST, "", None, False),
        (LIVE, "https://shop.com", None, False),
        (LIVE, "https://staging.shop.com", None, False),
        (LIVE, "http://10.0.0.7", None, False),
        (LIVE, "", None, False),
        ("rk_test_abcdefgh1234", "https://shop.com", None, True),
        (WEBHOOK, "https://shop.com", None, False),
    ],
)
async def test_key_mode(tmp_path: Path, key: str, base_url: str, environment: str | None, *, wrong: bool) -> None:
    """A test key in production and a live key on one's own machine are API_KEY_MODE; what is in doubt passes."""
    text = f'base_url = "{base_url}"\n' + require("STRIPE_SECRET_KEY")
    manifest = manifest_in(tmp_path, text, env=f"STRIPE_SECRET_KEY={key}\n", environment=environment)
    outcome = await KeyModeRight(manifest).ask(1)
    assert isinstance(outcome, Failed) is wrong, outcome
    if isinstance(outcome, Failed):
        assert outcome.reason is Reason.API_KEY_MODE
        assert key not in repr(outcome)
        address = Address.of(base_url, None)
        assert address is not None
        assert address.host in outcome.cause


@pytest.mark.parametrize(
    "front", ['[tunnel]\nhostname = "shop.org"\n', '[public]\nchecks = [{ url = "https://shop.org" }]\n']
)
async def test_a_public_name_in_front(tmp_path: Path, front: str) -> None:
    """With a public name in front, a loopback base_url does not say where users are."""
    text = 'base_url = "http://127.0.0.1:3000"\n' + require("STRIPE_SECRET_KEY") + front
    assert await codes(manifest_in(tmp_path, text, env=f"STRIPE_SECRET_KEY={LIVE}\n")) == set()


async def test_a_tunnel_that_is_switched_off_is_no_public_name(tmp_path: Path) -> None:
    """An overlay's provider = "none" leaves the hostname there, and nobody is reached by it."""
    off = '[tunnel]\nprovider = "none"\nhostname = "shop.org"\n'
    text = 'base_url = "http://127.0.0.1:3000"\n' + require("STRIPE_SECRET_KEY") + off
    assert await codes(manifest_in(tmp_path, text, env=f"STRIPE_SECRET_KEY={LIVE}\n")) == {Reason.API_KEY_MODE}


async def test_which_place_won_is_said(tmp_path: Path) -> None:
    """A variable that another place overrides is a warning with both places, never with a value."""
    manifest = manifest_in(tmp_path, require("A_KEY"), env="A_KEY=fromfile12345\n", environ={"A_KEY": "process12345"})
    outcome = await OverridesSaid(manifest).ask(1)
    assert isinstance(outcome, Passed)
    assert outcome.concern is not None
    assert outcome.concern.reason is Reason.ENV_OVERRIDDEN
    assert outcome.evidence == ("A_KEY: process environment wins over .env:1 (the file that was edited)",)


@pytest.mark.parametrize("kind", ALL)
async def test_nothing_declared_is_nothing_wrong(tmp_path: Path, kind: Callable[[Manifest], Check]) -> None:
    """A manifest without variables passes each question."""
    assert isinstance(await kind(manifest_in(tmp_path, "")).ask(1), Passed)
