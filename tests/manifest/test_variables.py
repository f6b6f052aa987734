"""Variables: which place wins, which are secrets, what a child gets."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flawless.core.errors import ConfigInvalid
from flawless.core.secret import Secret
from flawless.manifest import child_environment, load
from flawless.manifest.environment import tool_environment
from flawless.manifest.variables import is_secret

from .conftest import Load, Refuse

STACK = """
name = "a"
[env]
files = [".env", ".env.local"]
require = ["REQUIRED"]
secrets = ["SESSION"]
[services.api]
role = "backend"
command = ["api"]
port = 3001
env = { MODE = "production" }
[services.web]
role = "frontend"
command = ["web"]
[services.mail]
role = "worker"
command = ["mail"]
secrets = ["SMTP_LOGIN"]
"""


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("STRIPE_SECRET_KEY", "", True),
        ("stripe_webhook_secret", "", True),
        ("TUNNEL_TOKEN", "", True),
        ("ADMIN_PASSWORD", "", True),
        ("DATABASE_URL", "postgresql://u:p@h/d", True),
        ("HOOK", "https://token@host/x", True),
        ("DATABASE_URL", "postgresql://h/d", False),
        ("BASE_URL", "https://host/a@b", False),
        ("NEXT_PUBLIC_API_KEY", "", False),
        ("STRIPE_PUBLISHABLE_KEY", "", False),
        ("VAPID_PUBLIC_KEY", "", False),
        ("KEYBOARD", "", False),
        ("MODE", "production", False),
    ],
)
def test_a_secret_is_known_by_its_name_or_by_credentials_in_a_url(name: str, value: str, secret: bool) -> None:  # noqa: FBT001 - a table's column
    """CONTRACTS 3, [env] secrets."""
    assert is_secret(name, value) is secret


def test_the_process_wins_then_the_last_file(read: Load) -> None:
    """And the places that lost are kept."""
    manifest = read(
        STACK,
        environ={"C": "process", "UNRELATED": "x"},
        files={".env": "A=1\nB=1\nC=1\n", ".env.local": "\n# mine\nB=2\nC=2\n"},
    )
    found = {name: (variable.value, variable.source) for name, variable in manifest.variables.items()}
    assert found == {
        "A": ("1", ".env:1"),
        "B": ("2", ".env.local:3"),
        "C": ("process", "process environment"),
    }
    assert manifest.variables["B"].overridden == (".env:2",)
    assert manifest.variables["C"].overridden == (".env.local:4", ".env:3")


def test_an_override_is_evidence_that_names_the_file_that_was_edited(read: Load, tmp_path: Path) -> None:
    """FAILURES 6: which file won, over the one changed last."""
    files = {
        ".env": "DATABASE_URL=postgresql://u:new@h/d\nSAME=1\n",
        ".env.local": "\n\nDATABASE_URL=postgresql://u:old@h/d\nSAME=1\n",
    }
    read(STACK, files=files)
    os.utime(tmp_path / ".env.local", (1, 1))
    manifest = load(tmp_path, environ={})
    assert manifest.overrides == ("DATABASE_URL: .env.local:3 wins over .env:1 (the file that was edited)",)


def test_lines_are_counted_through_comments_quotes_and_blank_lines(read: Load) -> None:
    """The place that is said is the place to edit."""
    text = '# one\n\nexport A="x # y"\nMULTI="a\nb"\n\nB=\'$HOME ${A}\'  # note\nC\nD=\n'
    manifest = read(STACK, files={".env": text})
    found = {name: (variable.reveal(), variable.source) for name, variable in manifest.variables.items()}
    assert found == {
        "A": ("x # y", ".env:3"),
        "MULTI": ("a\nb", ".env:4"),
        "B": ("$HOME ${A}", ".env:7"),
        "C": ("", ".env:8"),
        "D": ("", ".env:9"),
    }


def test_secrets_are_those_used_listed_required_or_in_a_file(read: Load) -> None:
    """Nothing else of the process environment is taken."""
    manifest = read(
        STACK.replace("REQUIRED", "OPENAI_API_KEY")
        + '[admin]\npassword = "${GATE}"\n[external.stripe]\nkey = "literal-key-1"\n',
        environ={"OPENAI_API_KEY": "k1", "SESSION": "s1", "SMTP_LOGIN": "l1", "GATE": "g1", "AWS_SECRET_KEY": "no"},
        files={".env": "OTHER_TOKEN=t1\nBLANK_KEY=\nMODE=m\nURL=postgresql://u:p%40w@h/d\n"},
    )
    assert set(manifest.secrets) == {"OPENAI_API_KEY", "SESSION", "SMTP_LOGIN", "GATE", "OTHER_TOKEN", "URL"}
    shown = {secret.reveal() for secret in manifest.sensitive}
    assert {"literal-key-1", "k1", "p%40w", "p@w"} <= shown
    assert isinstance(manifest.variables["BLANK_KEY"].value, Secret)
    assert manifest.variables["MODE"].value == "m"


def test_a_child_gets_what_the_contract_lists_and_nothing_else(read: Load) -> None:
    """PATH and the like, PORT, FLAWLESS_DEPLOY_ID, its env, the plain names of the files, its secrets."""
    manifest = read(
        STACK,
        environ={
            "PATH": "/bin",
            "HOME": "/h",
            "LC_ALL": "C",
            "TZ": "UTC",
            "EDITOR": "vi",
            "AWS_TOKEN": "x",
            "PORT": "9",
        },
        files={".env": "MODE=file\nPLAIN=p\nPORT=3000\nAPI_KEY=k\nSMTP_LOGIN=l\nSESSION=s\n"},
    )
    common = {"PATH": "/bin", "HOME": "/h", "LC_ALL": "C", "TZ": "UTC", "PLAIN": "p", "FLAWLESS_DEPLOY_ID": "id"}
    secrets = {"API_KEY": "k", "SMTP_LOGIN": "l", "SESSION": "s"}
    assert child_environment(manifest, "api", "id", None) == common | secrets | {"MODE": "production", "PORT": "3001"}
    assert child_environment(manifest, "web", "id", None) == common | {"MODE": "file", "PORT": "9"}
    assert child_environment(manifest, "mail", "id", None) == common | {"MODE": "file", "PORT": "9", "SMTP_LOGIN": "l"}


def test_a_tool_gets_every_secret_but_the_tunnels_token(read: Load) -> None:
    """Migrations and builds are the application's; the token lets whoever has it stand in its place."""
    manifest = read(
        'name = "a"\n[tunnel]\nhostname = "app.example.org"\ntoken = "${CONNECTOR}"\n',
        environ={"PATH": "/bin", "CONNECTOR": "c1"},
        files={".env": "API_KEY=k1\nMODE=m\n"},
    )
    assert tool_environment(manifest) == {"PATH": "/bin", "API_KEY": "k1", "MODE": "m"}
    assert child_environment(manifest, "tunnel", "id", None)["TUNNEL_TOKEN"] == "c1"


def test_the_embedded_database_is_a_secret_of_those_entitled(read: Load) -> None:
    """A backend gets it unasked, a frontend only when it lists it."""
    url = Secret("postgresql://u:p@127.0.0.1:5/d")
    listed = '[services.ssr]\nrole = "frontend"\ncommand = ["x"]\nsecrets = ["DATABASE_URL"]\n'
    manifest = read(STACK + listed + '[database]\nurl = "embedded"')
    given_to = {
        name for name in manifest.settings.services if "DATABASE_URL" in child_environment(manifest, name, "", url)
    }
    assert given_to == {"api", "ssr"}
    assert [missing.name for missing in manifest.unresolved] == ["SMTP_LOGIN"]


def test_the_interpreter_is_predefined_unless_it_is_set(read: Load) -> None:
    """FLAWLESS_PYTHON, for stacks of the same environment."""
    text = 'name = "a"\n[services.api]\nrole = "worker"\ncommand = ["${FLAWLESS_PYTHON}"]'
    assert read(text).settings.services["api"].command == (sys.executable,)
    assert read(text, environ={"FLAWLESS_PYTHON": "py"}).settings.services["api"].command == ("py",)


def test_a_missing_env_file_is_no_problem_of_the_manifest(read: Load) -> None:
    """Required variables are the preflight's; it says which files were looked in."""
    manifest = read(STACK)
    assert manifest.env_files == (".env", ".env.local")
    assert "REQUIRED" not in manifest.variables


@pytest.mark.parametrize("text", ["what is this", "A='open", "= 1", 'A="x\0y"'])
def test_a_line_that_cannot_be_read_is_refused_with_its_number(refuse: Refuse, text: str) -> None:
    """Never skipped silently."""
    problem = refuse(STACK, files={".env": f"A=1\n\n{text}\n"})[".env"]
    assert (problem.file, problem.line) == (".env", 3)


def test_an_env_file_that_is_a_folder_is_refused(refuse: Refuse, tmp_path: Path) -> None:
    """Together with all other problems."""
    (tmp_path / ".env").mkdir()
    assert set(refuse(f"{STACK}\n[x]")) == {".env", "x"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.lists(
        st.sampled_from(
            [
                "name='a'",
                "[services.a]",
                "port=${X}",
                "[[a]]",
                "x='${Y:-1}'",
                "[database]",
                "url='${DATABASE_URL}'",
                "x={a=[1,{b=2}]}",
                "{",
                "]",
                "'''",
                '"""',
            ]
        )
    ),
    st.text(),
    st.dictionaries(
        st.sampled_from(["X", "Y", "DATABASE_URL", "FLAWLESS_TIMEOUT_STOP", "FLAWLESS_TIMEOUT_X"]), st.text()
    ),
)
def test_whatever_is_written_the_answer_is_a_manifest_or_config_invalid(
    tmp_path: Path, lines: list[str], env_file: str, environ: dict[str, str]
) -> None:
    """No traceback from any input."""
    (tmp_path / "flawless.toml").write_bytes("\n".join(lines).encode())
    (tmp_path / ".env").write_bytes(env_file.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(ConfigInvalid):
        assert load(tmp_path, environ=environ).settings.name == "a"
