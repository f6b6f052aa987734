"""A stack in a folder of its own, deployed by the real command line; at its end nothing of it may be left."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import psutil
import pytest

from support.canaries import contents, found_in

ROOT: Final = Path(__file__).resolve().parents[2]
FAULTY: Final = (sys.executable, "-I", "-S", str(ROOT / "tests/support/faulty_service.py"))
"""The argv of a faulty service; its words come behind."""

LIMIT: Final = 60.0
"""Seconds after which a command that hangs is ended; only a broken product makes a test wait so long."""

QUICK: Final = {
    "backend_ready": "10s",
    "frontend_ready": "10s",
    "stable": "0.3s",
    "recover": "1s",
    "stop": "2s",
}
_PORTS: Final = range(20000, 32000)
"""Below the ports the system gives to outgoing connections."""


@dataclass(frozen=True, slots=True)
class Done:
    """One command that has ended."""

    exit_code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


class Stack:
    """The manifest as a dict, the commands, and what they left in the world."""

    def __init__(self, folder: Path, resources: ExitStack) -> None:
        self.folder = folder
        self.manifest: dict[str, Any] = {"name": "shop", "timeouts": dict(QUICK), "services": {}}
        self.environment: dict[str, str] = {}
        """Further variables of every command."""
        self.product = ROOT / "src"
        """Where the commands, the keepers and the guards are run from."""
        self.mutation = ""
        """Python that breaks the product in every command, before what a command is given of its own."""
        self.secrets: set[str] = set()
        """What no command may say and no file may hold in the end, in no spelling; `.env` may."""
        self._said: list[Done] = []
        self._resources = resources
        self._ports: dict[str, int] = {}
        self._strangers: list[psutil.Process] = []
        for name in ("home", "tmp"):
            (folder / name).mkdir()

    # --- what is wanted ---

    def port(self, name: str) -> int:
        """The port of that name, free when it is first asked for, and nobody else's in any test that runs now."""
        if name not in self._ports:
            self._ports[name] = reserve(self._resources)
        return self._ports[name]

    def service(self, name: str, *words: str, role: str = "backend", **keys: Any) -> None:
        """Declares a service, anew when it is there already; `words` are the faulty service's."""
        directory = self.folder / name
        directory.mkdir(exist_ok=True)
        usual = {
            "role": role,
            "command": [*FAULTY, *words],
            "directory": name,
            "port": self.port(name),
            "ready": [{"http": "/health/live", "json": {"status": "alive", "service": name}}],
        }
        given = {key: value for key, value in (usual | keys).items() if value is not None}
        self.manifest["services"][name] = given

    def backend(self, *words: str, name: str = "backend", **keys: Any) -> None:
        """A service with the three health routes and the recovery routes."""
        ready = [
            {"http": "/health/live", "json": {"status": "alive", "service": name}},
            {"http": "/health/db", "json": {"ready": True}},
            {"http": "/health/status", "json": {"status": ["healthy", "ready"]}, "required": ["db"]},
        ]
        self.service(name, *words, **{"ready": ready, "recover": {}} | keys)

    def frontend(self, *words: str, name: str = "frontend", backend: str = "backend", **keys: Any) -> None:
        """A service whose page needs the backend."""
        env = {"BACKEND_URL": f"http://127.0.0.1:{self.port(backend)}"}
        ready = [
            {"http": "/health/live", "json": {"status": "alive", "service": name}},
            {"http": "/", "status": 200},
        ]
        words = words or ("answer=frontend",)
        self.service(name, *words, **{"role": "frontend", "env": env, "ready": ready} | keys)

    def timeouts(self, **limits: str) -> None:
        self.manifest["timeouts"].update(limits)

    def write(self) -> None:
        """Puts flawless.toml where the commands look for it; every command does so first."""
        (self.folder / "flawless.toml").write_text(to_toml(self.manifest))

    # --- commands ---

    def run(self, *arguments: str, mutation: str = "", limit: float = LIMIT) -> Done:
        """One command of the real command line. `mutation` is Python that breaks the product first."""
        self.write()
        before = time.monotonic()
        done = subprocess.run(
            self.argv(*arguments, mutation=mutation),
            cwd=self.folder,
            env=self.clean_environment(),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=limit,
            check=False,
        )
        seconds = time.monotonic() - before
        self._said.append(Done(done.returncode, done.stdout.decode(), done.stderr.decode(), seconds))
        return self._said[-1]

    def deploy(self, *arguments: str, mutation: str = "") -> Done:
        return self.run("deploy", *arguments, mutation=mutation)

    @contextmanager
    def deploying(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A deploy in the background, to be killed or waited for; its output is thrown away."""
        self.write()
        process = subprocess.Popen(
            self.argv("deploy", *arguments),
            cwd=self.folder,
            env=self.clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(LIMIT)

    def argv(self, *arguments: str, mutation: str = "") -> list[str]:
        """The real command line, broken first where that is wanted."""
        if not self.mutation + mutation:
            return [sys.executable, "-m", "flawless", *arguments]
        code = f"{self.mutation}\n{mutation}\nfrom flawless.cli.main import main\nmain()"
        return [sys.executable, "-c", code, *arguments]

    def clean_environment(self) -> dict[str, str]:
        """Nothing of whoever runs the tests but the PATH. HOME marks all that comes of this stack as its own."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(self.product),
            **self.environment,
        }

    def stranger(self, *words: str, port: int, name: str = "stranger") -> psutil.Popen:
        """A process that is not the stack's, listening on `port` when this returns."""
        directory = self.folder / name
        directory.mkdir(exist_ok=True)
        command = [*FAULTY, *words]
        environment = {"PATH": os.environ["PATH"], "PORT": str(port)}
        process = psutil.Popen(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL)
        self._strangers.append(process)
        host = next((word.partition("=")[2] for word in words if word.startswith("host=")), "127.0.0.1")
        until(lambda: can_connect(port, host), f"the stranger listens on {host}:{port}")
        return process

    # --- what is there ---

    def report(self) -> dict[str, Any]:
        """The newest report, which has the form of CONTRACTS 5."""
        newest = max((self.folder / "logs").glob("deploy-report-*.json"))
        report: dict[str, Any] = json.loads(newest.read_bytes())
        assert newest.with_suffix(".txt").exists()
        check_report(report)
        return report

    def failure(self) -> dict[str, Any]:
        failure = self.report()["failure"]
        assert failure is not None, "the deploy did not fail"
        return cast("dict[str, Any]", failure)

    def journal(self) -> list[dict[str, Any]]:
        """The events of the newest journal."""
        newest = max((self.folder / ".flawless/journal").glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
        return [json.loads(line) for line in newest.read_text().splitlines()]

    def record(self, service: str) -> dict[str, Any] | None:
        """The keeper's record as it is on disk."""
        with suppress(FileNotFoundError):
            found: dict[str, Any] = json.loads((self.folder / ".flawless/run" / service / "record.json").read_bytes())
            return found
        return None

    def pid(self, service: str) -> int | None:
        """The service's own process, when it lives."""
        child = (self.record(service) or {}).get("child")
        return child["pid"] if child and lives(child["pid"]) else None

    def pids(self, service: str) -> set[int]:
        """The service's process and all below it."""
        pid = self.pid(service)
        if pid is None:
            return set()
        with suppress(psutil.NoSuchProcess):
            return {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
        return set()

    def keeper(self, service: str) -> int:
        record = self.record(service)
        assert record is not None, f"{service} has no record"
        return int(record["keeper"]["pid"])

    def ask(self, service: str, path: str = "/health/live") -> Any:
        """What the service answers as JSON."""
        import urllib.request

        url = f"http://127.0.0.1:{self.port(service)}{path}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)

    def incidents(self, *flags: str) -> list[dict[str, Any]]:
        """The open ones, or what the flags ask for."""
        listed = json.loads(self.run("incidents", "list", *flags, "--json").stdout)["incidents"]
        return list(listed)

    def readable(self, *said: Done) -> dict[str, bytes]:
        """Everything of it that anybody can read: files, what commands said, argv and environments of its processes."""
        places = contents(self.files())
        for number, one in enumerate(said):
            places |= {f"stdout {number}": one.stdout.encode(), f"stderr {number}": one.stderr.encode()}
        for process in self.processes():
            places[f"argv of {process.pid}"] = "\n".join(process.cmdline()).encode()
            places[f"environment of {process.pid}"] = Path(f"/proc/{process.pid}/environ").read_bytes()
        return places

    def is_served(self, service: str) -> bool:
        return can_connect(self.port(service))

    def log(self, service: str) -> str:
        """All that the service printed, as it was written down."""
        paths = sorted((self.folder / "logs/services").glob(f"{service}*.log"))
        return "".join(path.read_text(errors="replace") for path in paths)

    def requests(self, file: str) -> list[dict[str, Any]]:
        """What a service started with `record=FILE` was asked."""
        path = self.folder / file
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def files(self) -> list[Path]:
        """Every regular file of the folder."""
        return [path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink()]

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to this folder: by its environment, its folder or its arguments."""
        own = os.getpid()
        return [one for one in psutil.process_iter() if one.pid != own and _belongs(one, str(self.folder))]

    def _leaks(self) -> list[str]:
        """Where a secret can be read afterwards, in which spelling."""
        if not self.secrets:
            return []
        places = contents(path for path in self.files() if path.name != ".env")
        places |= {f"command {at}": f"{one.stdout}{one.stderr}".encode() for at, one in enumerate(self._said)}
        return [found for secret in self.secrets for found in found_in(places, secret)]

    # --- the end ---

    def kill(self) -> None:
        """Quicker than `flawless stop`, where that is not what is looked at; keepers first, lest they do something."""
        strangers = {stranger.pid for stranger in self._strangers}
        records = (self.record(path.name) for path in (self.folder / ".flawless/run").glob("*"))
        keepers = {record["keeper"]["pid"] for record in records if record}
        ours = [one for one in self.processes() if one.pid not in strangers]
        for process in sorted(ours, key=lambda one: one.pid not in keepers):
            _end(process)

    def close(self) -> None:
        """Stops everything with the product's own word; whatever is left then is a defect, named and ended."""
        for stranger in self._strangers:
            _end(stranger)
        said = self.run("stop", "--all").output if self.processes() else ""
        left = self.processes()
        named = [f"{one.pid} {' '.join(one.cmdline())}" for one in left if one.is_running()]
        for process in left:
            _end(process)
        assert not named, f"left after `stop --all` ({said.strip()}): {named}"
        leaks = self._leaks()
        assert not leaks, f"a secret was told: {leaks}"
        held = [f"{name} {port}" for name, port in self._ports.items() if can_connect(port)]
        assert not held, f"ports still held: {held}"
        assert not list((self.folder / "tmp").iterdir()), "something was left in the temporary folder"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """An empty stack. Whatever a test did with it, nothing of it outlives the test."""
    with stacks(tmp_path) as made:
        yield made


@contextmanager
def stacks(folder: Path) -> Iterator[Stack]:
    """The same, where one test needs several."""
    with ExitStack() as strangers:
        made = Stack(folder, strangers)
        try:
            yield made
        finally:
            try:
                made.close()
            finally:
                _remove_database(folder)


def until(holds: Callable[[], object], what: str, limit: float = 15.0) -> None:
    """Waits for what another process does in its own time."""
    deadline = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < deadline, f"it did not come to that: {what}"
        time.sleep(0.01)


def lives(pid: int | None) -> bool:
    """Whether there is such a process; a zombie that nobody has buried yet is none."""
    with suppress(psutil.NoSuchProcess):
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def can_connect(port: int, host: str = "127.0.0.1") -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def to_toml(manifest: Mapping[str, Any]) -> str:
    """Top-level tables as tables, everything below them inline."""
    plain = [f"{key} = {_inline(value)}" for key, value in manifest.items() if not isinstance(value, Mapping)]
    tables = [(key, value) for key, value in manifest.items() if isinstance(value, Mapping)]
    lines = [*plain]
    for key, table in tables:
        lines += ["", f"[{key}]", *(f"{json.dumps(name)} = {_inline(value)}" for name, value in table.items())]
    return "\n".join(lines) + "\n"


def _inline(value: Any) -> str:
    match value:
        case Mapping():
            return "{" + ", ".join(f"{json.dumps(key)} = {_inline(one)}" for key, one in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(_inline(one) for one in value) + "]"
        case _:
            return json.dumps(value)


_FIELDS: Final[dict[str, type | tuple[type, ...]]] = {
    "schema_version": int,
    "deploy_id": str,
    "environment": (str, type(None)),
    "started_at": str,
    "finished_at": str,
    "duration_ms": int,
    "result": str,
    "exit_code": (int, type(None)),
    "versions": dict,
    "phases": list,
    "services": list,
    "database": dict,
    "health": dict,
    "tunnel": dict,
    "external": list,
    "recovery": dict,
    "failure": (dict, type(None)),
    "rollback": (dict, type(None)),
    "incident_id": (str, type(None)),
    "changes_since_last_good": dict,
    "log_tail": dict,
}
_EXIT_CODES: Final[dict[str, set[int | None]]] = {
    "success": {0},
    "partial": {2},
    "failure": {1, 129, 130, 143},
    "aborted": {None},
}


def check_report(report: Mapping[str, Any]) -> None:
    """Fails when a report has not the form of CONTRACTS 5, or contradicts itself."""
    wrong = [key for key, kind in _FIELDS.items() if key not in report or not isinstance(report[key], kind)]
    assert not wrong, f"missing or of the wrong type: {wrong}"
    assert report["exit_code"] in _EXIT_CODES[report["result"]]
    assert {"live", "db", "status"} <= set(report["health"])
    assert {"latency_ms", "migrations", "tables"} <= set(report["database"])
    assert {"stats", "attempted", "result"} <= set(report["recovery"])
    for service in report["services"]:
        assert {"name", "role", "pid", "port", "started_at", "restarted"} <= set(service)
    for phase in report["phases"]:
        assert {"name", "status", "started_at", "duration_ms", "waited_for", "checks"} <= set(phase)
        assert phase["status"] in {"passed", "failed", "skipped"}
        for outcome in phase["checks"]:
            _check_outcome(outcome)
    assert (report["failure"] is None) == (report["result"] in {"success", "partial"})
    if report["failure"] is not None:
        _check_failure(report["failure"])
    if report["rollback"] is not None:
        assert report["rollback"]["status"] in {"not needed", "done", "failed"}
        assert isinstance(report["rollback"]["actions"], list)


def _check_outcome(outcome: Mapping[str, Any]) -> None:
    assert {"id", "status", "code", "latency_ms", "evidence", "next_step", "optional"} <= set(outcome)
    assert outcome["status"] in {"PASS", "FAIL", "SKIP", "WARN"}
    if outcome["status"] == "FAIL":
        assert outcome["code"], outcome
        assert outcome["evidence"], outcome
        assert outcome["next_step"], outcome


def _check_failure(failure: Mapping[str, Any]) -> None:
    assert set(failure) == {"phase", "code", "cause", "evidence", "next_steps"}
    assert failure["evidence"], failure
    assert failure["next_steps"], failure


def _belongs(process: psutil.Process, folder: str) -> bool:
    """A process that has ended, or that we may not read, is none of ours."""
    with suppress(psutil.Error):
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        said = [process.cwd(), *process.environ().values(), *process.cmdline()]
        return any(folder in one for one in said)
    return False


def _end(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()
        process.wait(10)


def _remove_database(folder: Path) -> None:
    """Root's embedded database lies outside of the folder, where its own user may enter."""
    for path in folder.glob(".flawless/**/postgres/state.json"):
        data = Path(json.loads(path.read_bytes())["data_directory"])
        if data.is_absolute():
            shutil.rmtree(data.parent, ignore_errors=True)


def reserve(resources: ExitStack) -> int:
    """A port that is free and that no other test takes meanwhile: an abstract socket of its number says so."""
    for port in random.sample(_PORTS, 200):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0flawless-test-port-{port}")
        except OSError:
            claim.close()
            continue
        resources.enter_context(claim)
        if _is_bindable(port):
            return port
    raise AssertionError("no free port in 200 tries")


def _is_bindable(port: int) -> bool:
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        with socket.socket(family) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
