"""The service that every contender runs: says `born`, boots, listens, says `ready`, and stays.

Standard library, no site packages: what is measured is who runs it. Its words go into the benchmark's pipe, and to
those who can be told: s6 through a descriptor, PM2 through its channel, runit and circus through a file that is there
when it is ready.
"""

from __future__ import annotations

import os
import signal
import sys
import time

_CHUNK = b"x" * 84


def main() -> None:
    name, events, *rest = sys.argv[1:]
    options = dict(zip(rest[::2], rest[1::2], strict=True))
    if options.get("--on-term") == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(events, "born", name)
    if "--grandchild" in options:
        spawn(events, name, session=options["--grandchild"])
    time.sleep(float(options.get("--boot", 0)))
    listening = listen(int(options["--port"])) if "--port" in options else None
    announce(events, name)
    if "--lines" in options:
        wait_at(options["--gate"])
        write_lines(int(options["--lines"]), float(options.get("--pause", 0)))
        say(events, "written", name)
    if listening is None:
        time.sleep(100_000)
    answer(listening)


def say(events: str, kind: str, name: str) -> None:
    descriptor = os.open(events, os.O_WRONLY)
    os.write(descriptor, b"%s %s %d\n" % (kind.encode(), name.encode(), os.getpid()))
    os.close(descriptor)


def announce(events: str, name: str) -> None:
    """Ready, said in every language that somebody here understands."""
    say(events, "ready", name)
    with open(f"{events}.{name}.ready", "w", encoding="ascii"):  # noqa: PTH123 - pathlib would be half the start-up
        pass
    if "NOTIFY" in os.environ:
        os.write(int(os.environ["NOTIFY"]), b"\n")
    if "NODE_CHANNEL_FD" in os.environ:
        os.write(int(os.environ["NODE_CHANNEL_FD"]), b'"ready"\n')


def spawn(events: str, name: str, *, session: str) -> None:
    """A process below us that does not obey, in our group or in a session of its own."""
    import subprocess

    command = [sys.executable, "-I", "-S", __file__, f"{name}-below", events, "--on-term", "ignore"]
    subprocess.Popen(command, env={}, start_new_session=session == "own")  # nobody's channels are its own


def wait_at(gate: str) -> None:
    """Until somebody opens the other end."""
    os.close(os.open(gate, os.O_RDONLY))


def write_lines(count: int, pause: float) -> None:
    """Lines of 100 bytes with their number, each written by itself, as an unbuffered logger does."""
    for number in range(count):
        os.write(1, b"%014d %s\n" % (number, _CHUNK))
        if pause:
            time.sleep(pause)


def listen(port: int) -> object:
    import socket

    return socket.create_server(("127.0.0.1", port))


def answer(listening: object) -> None:
    import socket

    assert isinstance(listening, socket.socket)
    while True:
        connection, _ = listening.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


if __name__ == "__main__":
    main()
