"""For what the world does in its own time: asked again until it is so, within a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def eventually(holds: Callable[[], Awaitable[object]], limit: float = 10.0) -> None:
    """Returns when the answer is true. Raises TimeoutError after `limit` seconds."""
    async with asyncio.timeout(limit):
        while not await holds():
            await asyncio.sleep(0.01)
