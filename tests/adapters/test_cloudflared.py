"""Which cloudflareds run here, and what each was told: real processes, found by name and never signalled."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from flawless.adapters.cloudflared import connectors
from support.connectors import TOKEN, TUNNEL, connector, found


def test_what_is_known_of_one(tmp_path: Path) -> None:
    """Pid, arguments, user, moment of start to a hundredth, and the file it was told, from its own folder."""
    before = time.time()
    arguments = ("tunnel", "--config", "config.yml", "--metrics=127.0.0.1:1234", "run", TUNNEL)
    with connector(tmp_path, {}, *arguments) as running:
        after = time.time()
        [one] = found(running)
    assert one.pid == running.pid
    assert one.arguments[2:] == arguments
    assert before - 0.05 <= one.since <= after + 0.05
    assert one.config == tmp_path / "config.yml"
    assert (one.metrics, one.tunnel, one.by_token) == ("127.0.0.1:1234", TUNNEL, False)
    assert f"pid {running.pid} (" in str(one)


def test_variables_count_as_arguments_do(tmp_path: Path) -> None:
    """TUNNEL_TOKEN and TUNNEL_METRICS of its environment; the token tells its tunnel and is kept nowhere."""
    environment = {"TUNNEL_TOKEN": TOKEN, "TUNNEL_METRICS": "localhost:4321"}
    with connector(tmp_path, {}, environment=environment) as running:
        [one] = found(running)
    assert (one.tunnel, one.metrics, one.by_token, one.config) == (TUNNEL, "localhost:4321", True, None)
    assert TOKEN not in repr(one)


@pytest.mark.parametrize("told", [("--token", TOKEN), (f"--token={TOKEN}",), ("-token", TOKEN)])
def test_a_token_in_the_arguments_is_not_repeated(told: tuple[str, ...], tmp_path: Path) -> None:
    """What stands in argv is everybody's to read, and still masked; the tunnel's id is known from it."""
    with connector(tmp_path, {}, "tunnel", "run", *told) as running:
        [one] = found(running)
    assert TOKEN not in repr(one) + str(one)
    assert one.tunnel == TUNNEL
    assert one.by_token


def test_a_token_file(tmp_path: Path) -> None:
    """Its tunnel is read from the file."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with connector(tmp_path, {}, "tunnel", "run", "--token-file", str(tmp_path / "token")) as running:
        [one] = found(running)
    assert (one.tunnel, one.by_token) == (TUNNEL, True)


def test_the_default_file(tmp_path: Path) -> None:
    """Without `--config` it is the first there is in its user's folders."""
    (tmp_path / ".cloudflared").mkdir()
    file = tmp_path / ".cloudflared" / "config.yaml"
    file.write_text("")
    with connector(tmp_path, {}, "tunnel", "run") as running:
        [one] = found(running)
    assert one.config == file


@pytest.mark.parametrize(
    "arguments",
    [
        ("access", "tcp", "--hostname", "tunnel"),
        ("tunnel", "login"),
        ("tunnel", "info", "x"),
        ("tunnel", "--metrics", "127.0.0.1:1", "ready"),
        ("update",),
        ("version",),
    ],
)
def test_other_commands_carry_no_tunnel(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """`cloudflared access`, `tunnel login` and the like are the same program and no connector."""
    with connector(tmp_path, {}, *arguments) as running:
        assert found(running) == []


@pytest.mark.parametrize(
    "arguments",
    [("tunnel",), ("tunnel", "--url", "http://localhost:1"), ("--no-autoupdate", "tunnel", "run"), ("tunnel", "run")],
)
def test_what_carries_one(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Every form in which it runs a tunnel."""
    with connector(tmp_path, {}, *arguments) as running:
        [one] = found(running)
    assert one.url == ("http://localhost:1" if "--url" in arguments else "")


def test_another_program_of_ours(tmp_path: Path) -> None:
    """A process of ours counts whatever its name; the same process of somebody else does not."""
    with connector(tmp_path, {}, name="wrapped") as running:
        assert found(running) == []
        assert [one.pid for one in connectors([running.pid]) if one.pid == running.pid] == [running.pid]


def test_one_that_is_gone_is_not_found(tmp_path: Path) -> None:
    """After its end nothing of it is left, and a pid of ours that is gone is no error."""
    with connector(tmp_path, {}) as running:
        pass
    assert found(running) == []
    assert all(one.pid != running.pid for one in connectors([running.pid]))
    assert os.getpid() not in {one.pid for one in connectors()}
