from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from flawless.manifest.loader import load

from .conftest import DEPLOY_ID, STACK


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("part", "health"), [("backend", "/health/live"), ("frontend", "/frontend/health"), ("frontend", "/")]
)
def test_a_part_serves_on_loopback_and_ends_in_a_second(part: str, health: str, tmp_path: Path) -> None:
    """With nothing but a port it starts, says who it is, and leaves its port free after SIGTERM."""
    port = free_port()
    environment = {
        "PORT": str(port),
        "FLAWLESS_DEPLOY_ID": DEPLOY_ID,
        "STORAGE_DIR": str(tmp_path),
        "BACKEND_URL": f"http://127.0.0.1:{free_port()}",
        "PYTHONUNBUFFERED": "1",
    }
    argv = [sys.executable, "-m", f"board_{part}"]
    process = subprocess.Popen(argv, cwd=STACK / part, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert any(f"http://127.0.0.1:{port}" in line for line in process.stderr), "it ended before it served"
        with httpx2.Client(trust_env=False) as client:
            answer = client.get(f"http://127.0.0.1:{port}{health}")
            assert answer.headers["x-flawless-deploy-id"] == DEPLOY_ID
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=5) == -signal.SIGTERM
            assert time.monotonic() - started < 1.5
        socket.create_server(("127.0.0.1", port)).close()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()  # type: ignore[union-attr]  # it was asked for above


def test_the_manifest_needs_no_variable() -> None:
    """`env -i flawless deploy` finds nothing missing: the default stack deploys from an empty environment."""
    environ = {"FLAWLESS_PYTHON": sys.executable, "PATH": os.environ["PATH"]}
    settings = load(STACK.parent, file=STACK.parent / "flawless.toml", environ=environ).settings
    assert settings.database is not None
    assert settings.database.embedded
    assert {name: service.port for name, service in settings.services.items()} == {"backend": 3001, "frontend": 3000}
    assert all((STACK.parent / service.directory).is_dir() for service in settings.services.values())
