"""A web site on loopback whose every answer a test decides, over http or https, in the loop of the test."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Asked:
    """A request as it came: how many came before it, its path with the query, its headers in small letters."""

    number: int
    target: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True)
class Said:
    """An answer. A status of 0 closes the connection without one; -1 keeps it open and never answers."""

    status: int = 200
    body: bytes = b""
    kind: str = "text/html"
    headers: Mapping[str, str] = field(default_factory=dict)


Talk = Callable[[Asked], Said]


def page(title: str, *assets: str, head: str = "") -> bytes:
    """A page with scripts and styles by their paths."""
    tags = [
        f'<link rel="stylesheet" href="{one}">' if one.endswith(".css") else f'<script src="{one}"></script>'
        for one in assets
    ]
    return f"<!doctype html><title>{title}</title>{head}{''.join(tags)}<p>hello</p>".encode()


def echo(deploy_id: str, said: Said | None = None, /, **headers: str) -> Said:
    """The same answer, signed by a deploy."""
    said = said or Said(body=page("Board"))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Said(said.status, said.body, said.kind, {**said.headers, "X-Flawless-Deploy-Id": deploy_id, **named})


def jsonic(body: Any, status: int = 200) -> Said:
    return Said(status, json.dumps(body).encode(), "application/json")


class Site:
    """Serves what `talk` says; `asked` are the requests, in order."""

    def __init__(self, talk: Talk, context: ssl.SSLContext | None = None) -> None:
        self.talk = talk
        self.asked: list[Asked] = []
        self.at_once = 0
        self._open = 0
        self._context = context
        self._connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=self._context)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._connections.values():
            writer.transport.abort()
        await asyncio.gather(*self._connections)
        await self._server.wait_closed()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        self._open += 1
        self.at_once = max(self.at_once, self._open)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._talked(reader, writer)
        finally:
            self._open -= 1
            del self._connections[task]
            writer.close()

    async def _talked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        asked = Asked(len(self.asked), first.split(" ")[1], headers)
        self.asked.append(asked)
        said = self.talk(asked)
        if said.status < 0:
            await reader.read()
        if said.status <= 0:
            return
        head = {"Content-Type": said.kind, "Content-Length": str(len(said.body)), "Connection": "close", **said.headers}
        told = "".join(f"{name}: {value}\r\n" for name, value in head.items() if value)
        writer.write(f"HTTP/1.1 {said.status} x\r\n{told}\r\n".encode("latin-1") + said.body)
        await writer.drain()
