"""Whoever opens a public name, and whoever asks a metrics port, in a test that has no loop of its own."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any

from flawless.adapters.http import RemoteHttp
from flawless.core.answer import Answer
from support.edge import Edge


def visit(public: Edge, name: str, path: str = "/", *, limit: float = 5.0) -> Answer:
    """One request as the product makes it: verified, pinned, no redirect followed."""

    async def asked() -> Answer:
        client = RemoteHttp(ca_file=public.ca_file, resolve={f"{name}:443": f"127.0.0.1:{public.port}"})
        try:
            return await client.ask("GET", public.url(name, path), limit=limit)
        finally:
            await client.aclose()

    return asyncio.run(asked())


def metrics(port: int, path: str, limit: float = 2.0) -> tuple[int, str]:
    """Status and body of a metrics port. Raises OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def metrics_json(port: int, path: str) -> Any:
    return json.loads(metrics(port, path)[1])


def figures(port: int) -> dict[str, int]:
    """The figures of /metrics."""
    lines = metrics(port, "/metrics")[1].splitlines()
    return {name: int(value) for name, _, value in (line.rpartition(" ") for line in lines)}
