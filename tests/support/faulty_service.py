"""A service that does one thing wrong, or nothing: `faulty_service.py [WORD[=ARGUMENT]]...`, carried out in order.

Standard library only, and started with `-I -S`, so that it is up within a tenth of a second. A word of `_STEPS` acts
before it serves; `answer=NAME` says how it answers, with a name of `_ANSWERS`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NoReturn

Reply = tuple[int, str, str]
"""Status, content type, body."""


class Answers:
    """How a well service answers. Each fault overrides what it does otherwise."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.deploy_id = os.environ.get("FLAWLESS_DEPLOY_ID", "")

    def get(self, path: str) -> Reply:
        routes = {
            "/health/live": self.live,
            "/health/db": self.db,
            "/health/status": self.status,
            "/health/recovery-stats": self.stats,
            "/": self.page,
        }
        return routes[path]() if path in routes else _json({"error": "no such page"}, 404)

    def post(self, path: str) -> Reply:
        return _json({"error": "no such page"}, 404)

    def live(self) -> Reply:
        return _json({"status": "alive", "service": self.name, "pid": os.getpid(), "deployId": self.deploy_id})

    def db(self) -> Reply:
        return _json({"ready": True})

    def status(self) -> Reply:
        return _json({"status": "healthy", "services": {"db": {"healthy": True}}, "degradedReasons": []})

    def stats(self) -> Reply:
        return _json({"stats": {"total": 0, "successful": 0, "failed": 0}, "history": []})

    def page(self) -> Reply:
        return 200, "text/html", f"<title>{self.name}</title>"


class Html(Answers):
    """A parking page on every path."""

    def get(self, path: str) -> Reply:
        return 200, "text/html", "<!doctype html><title>Parking page</title>"


class OtherService(Answers):
    """The `alive` of another service."""

    def live(self) -> Reply:
        return _json({"status": "alive", "service": "somebody-else"})


class OtherDeploy(Answers):
    """An older release that still answers."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.deploy_id = "20200101T000000Z-000000"


class Unready(Answers):
    """Its database is not ready."""

    def db(self) -> Reply:
        body = {"ready": False, "lastError": "DB_REFUSED: nobody listens on 127.0.0.1:5999", "degradedReasons": []}
        return _json(body | {"degradedReasons": ["database unreachable since 14:02"]}, 503)


class Degraded(Answers):
    """`ok` at first sight, and degraded."""

    def status(self) -> Reply:
        degraded = {"enabled": True, "reason": "queue is 4000 behind"}
        return _json({"status": "healthy", "services": {"db": {"healthy": True}}, "degraded": degraded})


class Unhealthy(Answers):
    """A required service of it is not healthy."""

    def status(self) -> Reply:
        services = {"db": {"healthy": False, "error": "connection pool exhausted"}}
        return _json(
            {"status": "unhealthy", "services": services, "degradedReasons": ["db: connection pool exhausted"]}
        )


class Leaky(Answers):
    """Unhealthy, and its reasons hold its secret."""

    def status(self) -> Reply:
        secret = os.environ["SESSION_SECRET"]
        services = {"db": {"healthy": False, "error": f"login failed for {secret}"}}
        return _json({"status": secret, "services": services, "degradedReasons": [f"refused: {secret}"]})


class Recoverable(Unhealthy):
    """Unhealthy until it is told to recover; only with the admin password, when there is one."""

    helps = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._is_recovered = False

    def status(self) -> Reply:
        return Answers.status(self) if self._is_recovered else super().status()

    def post(self, path: str) -> Reply:
        if path != "/health/recover":
            return super().post(path)
        self._is_recovered = self.helps
        return _json({"message": "pool drained and opened again", "attempted": True, "services": ["db"]})


class Unrecoverable(Recoverable):
    """Says that it recovers, and stays unhealthy."""

    helps = False


class Hung(Answers):
    """Accepts and never answers."""

    def get(self, path: str) -> Reply:
        threading.Event().wait()
        raise AssertionError("this is never reached")


class Frontend(Answers):
    """Its page is the backend's; without that it says 503."""

    def page(self) -> Reply:
        try:
            with urllib.request.urlopen(os.environ["BACKEND_URL"] + "/health/live", timeout=2) as answer:  # noqa: S310 - loopback, given by the test
                return 200, "text/html", f"<title>{json.load(answer)['service']}</title>"
        except (OSError, urllib.error.URLError) as error:
            return 503, "text/html", f"<h1>System Offline</h1>{error}"


class Flapping(Answers):
    """Up for `up` seconds, then away for `down` seconds, and so on."""

    up, down = 2.0, 1.0

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._since = time.monotonic()

    def get(self, path: str) -> Reply:
        if (time.monotonic() - self._since) % (self.up + self.down) >= self.up:
            return _json({"status": "down", "degradedReasons": ["connection storm"]}, 503)
        return super().get(path)


class Booting(Answers):
    """For its first `seconds` it answers as a `kind` of half-started service does; then well."""

    seconds, kind = 2.0, "page"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._since = time.monotonic()

    def get(self, path: str) -> Reply:
        if time.monotonic() - self._since >= self.seconds:
            return super().get(path)
        replies = {
            "closed": (0, "", ""),
            "cut": (0, "", "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nhalf"),
            "page": (200, "text/html", "<p>Starting up, please wait</p>"),
            "redirect": (302, "text/html", ""),
            "empty": (200, "text/plain", ""),
            "other-service": _json({"status": "alive", "service": "starter"}),
        }
        return replies[self.kind]


class Mortal(Answers):
    """Ends with 0 while it is asked, once it has answered so often."""

    answers = 1

    def get(self, path: str) -> Reply:
        if self.answers == 0:
            os._exit(0)
        self.answers -= 1
        return super().get(path)


class Site(Answers):
    """A page with a script and a style of its own, each of its type."""

    def get(self, path: str) -> Reply:
        assets = {"/app.js": ("text/javascript", "'app'"), "/site.css": ("text/css", "body {}")}
        return (200, *assets[path]) if path in assets else super().get(path)

    def page(self) -> Reply:
        head = '<link rel="stylesheet" href="/site.css"><script type="module" src="/app.js"></script>'
        return 200, "text/html", f"<!doctype html><title>{self.name}</title>{head}"


_ANSWERS: Final[dict[str, type[Answers]]] = {
    "ok": Answers,
    "html": Html,
    "other-service": OtherService,
    "other-deploy": OtherDeploy,
    "unready": Unready,
    "degraded": Degraded,
    "unhealthy": Unhealthy,
    "leaky": Leaky,
    "recoverable": Recoverable,
    "unrecoverable": Unrecoverable,
    "hung": Hung,
    "frontend": Frontend,
    "flapping": Flapping,
    "booting": Booting,
    "mortal": Mortal,
    "site": Site,
}


class Setup:
    """What the words have said."""

    def __init__(self) -> None:
        self.name = Path.cwd().name
        self.host = "127.0.0.1"
        self.port = int(os.environ.get("PORT", "0"))
        self.answer = "ok"
        self.echoes = False
        self.control: Path | None = None
        self.record: Path | None = None
        self.when_serving: list[Callable[[], object]] = []


def _send(handler: BaseHTTPRequestHandler, reply: Reply, echo: str | None) -> None:
    """Status 0: no head of ours; what is there is sent, and the connection closed. `echo`: the deploy's id."""
    status, kind, body = reply
    if status:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body.encode())))
        if echo is not None:
            handler.send_header("X-Flawless-Deploy-Id", echo)
        handler.end_headers()
    handler.wfile.write(body.encode())


def serve(setup: Setup) -> None:
    """Listens and answers until it is told to end."""
    answers = {setup.answer: _ANSWERS[setup.answer](setup.name)}

    def present() -> Answers:
        word = setup.control.read_text().strip() if setup.control and setup.control.exists() else ""
        if word.startswith("exit="):
            os._exit(int(word.removeprefix("exit=")))
        word = word or setup.answer
        return answers.setdefault(word, _ANSWERS[word](setup.name)) if word not in answers else answers[word]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._note()
            answers = present()
            _send(self, answers.get(self.path.partition("?")[0]), answers.deploy_id if setup.echoes else None)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._note()
            _send(self, present().post(self.path), None)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name http.server gives it
            pass

        def _note(self) -> None:
            if setup.record is not None:
                line = json.dumps({"method": self.command, "path": self.path, "headers": dict(self.headers)})
                with setup.record.open("a") as file:
                    file.write(line + "\n")

    server = _server(setup.host)((setup.host, setup.port), Handler)
    for act in setup.when_serving:
        act()
    server.serve_forever()


def _server(host: str) -> type[ThreadingHTTPServer]:
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Whoever asked did not wait for the answer: that is their affair."""

    return Server


def _exit(_setup: Setup, status: str) -> NoReturn:
    """`exit=3`: ends at once with this status."""
    sys.stdout.flush()
    os._exit(int(status))


def _die(_setup: Setup, number: str) -> None:
    """`signal=9`: ends by this signal."""
    sys.stdout.flush()
    os.kill(os.getpid(), int(number))


def _exit_where(_setup: Setup, file: str) -> None:
    """`exit-where=broken`: ends at once, with status 5, while there is such a file in its folder."""
    if Path(file).exists():
        _exit(_setup, "5")


def _wait(_setup: Setup, seconds: str) -> None:
    """`wait=4`: boots slowly."""
    time.sleep(float(seconds))


def _never_listen(_setup: Setup, _argument: str) -> NoReturn:
    while True:
        time.sleep(3600)


def _print(_setup: Setup, text: str) -> None:
    r"""`print=a\x1b[2Jb`: one line, in which Python's escapes are resolved."""
    sys.stdout.write(text.encode().decode("unicode_escape") + "\n")
    sys.stdout.flush()


def _print_lines(_setup: Setup, count: str) -> None:
    sys.stdout.write("".join(f"line {number}\n" for number in range(int(count))))
    sys.stdout.flush()


def _print_variable(_setup: Setup, name: str) -> None:
    """`print-env=NAME`: what a careless service does with its secrets."""
    sys.stdout.write(f"{name} is {os.environ.get(name, 'not set')}\n")
    sys.stdout.flush()


def _leak(_setup: Setup, name: str) -> None:
    """`leak=NAME`: prints its secret in many spellings, as logs of requests, errors and dumps do."""
    import base64
    import html
    import re
    import urllib.parse

    secret = os.environ[name]
    data = secret.encode()
    half = len(secret) // 2
    words = [secret, json.dumps(secret), json.dumps({"error": json.dumps(secret)}), repr(secret), html.escape(secret)]
    words += [urllib.parse.quote(secret), urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret)]
    words += [base64.b64encode(b"x" * shift + data).decode() for shift in range(3)]
    words += [base64.urlsafe_b64encode(data).decode(), data.hex(), data.hex().upper()]
    words += [re.sub(r'([\\"$`])', r"\\\1", secret), "".join(f"\\u{ord(char):04x}" for char in secret)]
    words += [f"{secret[:half]}\n{secret[half:]}"]
    sys.stdout.write("".join(f"password={word} was refused\n" for word in words))
    for part in (secret[:half], f"{secret[half:]}\n"):
        sys.stdout.flush()
        time.sleep(0.05)  # the two halves reach whoever reads them apart
        sys.stdout.write(part)
    sys.stdout.flush()


def _exit_after(setup: Setup, argument: str) -> None:
    """`exit-after=0.5:1`: serves for so long, then ends with this status."""
    seconds, _, status = argument.partition(":")
    timer = threading.Timer(float(seconds), os._exit, (int(status or "1"),))
    timer.daemon = True
    setup.when_serving.append(timer.start)


def _stop_itself(setup: Setup, _argument: str) -> None:
    """Frozen as soon as it listens: the kernel goes on accepting for it."""
    setup.when_serving.append(lambda: os.kill(os.getpid(), signal.SIGSTOP))


def _leave_heir(setup: Setup, _argument: str) -> None:
    """A grandchild in a session of its own, deaf to SIGTERM, that holds the listening socket for ever."""

    def fork() -> None:
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _never_listen(setup, "")

    setup.when_serving.append(fork)


def _go_to_background(setup: Setup, _argument: str) -> None:
    """As a daemon does: in a session of its own, its parents ended, the first one once it listens. Deaf to SIGTERM."""
    reading, writing = os.pipe()
    if os.fork():
        os.read(reading, 1)
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    setup.when_serving.append(lambda: os.write(writing, b"1"))


def _ignore_term(_setup: Setup, _argument: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _flap(setup: Setup, argument: str) -> None:
    """`flap=0.6:0.4`: up and away, in turns."""
    up, _, down = argument.partition(":")
    Flapping.up, Flapping.down = float(up), float(down)
    setup.answer = "flapping"


def _boot(setup: Setup, argument: str) -> None:
    """`at-first=2.5:page`: what it answers for so many seconds."""
    seconds, _, Booting.kind = argument.partition(":")
    Booting.seconds = float(seconds)
    setup.answer = "booting"


def _die_when_asked(setup: Setup, argument: str) -> None:
    """`mortal=2`: the third question is its end."""
    Mortal.answers = int(argument)
    setup.answer = "mortal"


def _echo(setup: Setup, _argument: str) -> None:
    """Every answer carries the deploy's id in its head."""
    setup.echoes = True


def _set(field: str, convert: Callable[[str], object] = str) -> Callable[[Setup, str], None]:
    return lambda setup, argument: setattr(setup, field, convert(argument))


def _json(body: object, status: int = 200) -> Reply:
    return status, "application/json", json.dumps(body)


_STEPS: Final[dict[str, Callable[[Setup, str], None]]] = {
    "answer": _set("answer"),
    "background": _go_to_background,
    "name": _set("name"),
    "port": _set("port", int),
    "host": _set("host"),
    "control": _set("control", Path),
    "record": _set("record", Path),
    "exit": _exit,
    "exit-where": _exit_where,
    "signal": _die,
    "wait": _wait,
    "silent": _never_listen,
    "print": _print,
    "print-lines": _print_lines,
    "print-env": _print_variable,
    "leak": _leak,
    "exit-after": _exit_after,
    "freeze": _stop_itself,
    "heir": _leave_heir,
    "ignore-term": _ignore_term,
    "flap": _flap,
    "at-first": _boot,
    "mortal": _die_when_asked,
    "echo": _echo,
}


def main(words: list[str]) -> None:
    setup = Setup()
    for word in words:
        name, _, argument = word.partition("=")
        _STEPS[name](setup, argument)
    serve(setup)


if __name__ == "__main__":
    main(sys.argv[1:])
