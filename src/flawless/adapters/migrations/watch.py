"""Watches the tool's database sessions while it runs, so that nobody queues behind its DDL longer than lock_timeout.

PostgreSQL does this itself for a driver that honours PGOPTIONS; asyncpg and Prisma's do not. A session is the tool's
when its client port is a socket of the tool's process tree, or when it carries the application name we gave it
(over a Unix socket there is no port, so only then).
"""

from __future__ import annotations

from collections.abc import Iterable

from flawless.adapters.migrations.session import Backend, Holder, Peer, Session, local_port
from flawless.core.clock import Clock

EVERY = 0.1
"""Seconds between two looks."""


class Watch:
    """What is seen of one run of the tool. `root`: the process whose descendants are the tool."""

    def __init__(self, session: Session, application: str, *, lock_timeout: float, clock: Clock) -> None:
        self.root: int | None = None
        self.blockers: tuple[Holder, ...] = ()
        self.longest_wait = 0.0
        self._session = session
        self._application = application
        self._lock_timeout = lock_timeout
        self._clock = clock
        self._mine: set[Backend] = set()
        self._strangers: set[Backend] = set()
        self._waiting_since: dict[Backend, float] = {}

    @property
    def saw_lock_timeout(self) -> bool:
        """The tool waited for a lock about as long as it may; two looks may be missing at either end."""
        return self.longest_wait >= self._lock_timeout - 3 * EVERY

    async def look(self) -> None:
        """One look: which sessions are the tool's, which of them wait, for whom, and whether for too long."""
        peers = await self._session.peers()
        self._recognize(peers)
        waiting = [peer for peer in peers if peer.waiting and peer.backend in self._mine]
        now = self._clock.monotonic()
        self._waiting_since = {peer.backend: self._waiting_since.get(peer.backend, now) for peer in waiting}
        for peer in waiting:
            await self._note(peer, now - self._waiting_since[peer.backend])

    async def _note(self, peer: Peer, waited: float) -> None:
        self.longest_wait = max(self.longest_wait, waited)
        blockers = await self._session.described(set(peer.blockers))
        self.blockers = blockers or self.blockers
        if waited >= self._lock_timeout:
            await self._session.cancel(peer.backend)

    async def end_sessions(self) -> None:
        """Ends what the server still does for a tool that is gone: it would not notice before the lock is granted."""
        for peer in await self._session.peers():
            if peer.backend in self._mine or peer.application == self._application:
                await self._session.terminate(peer.backend)

    def _recognize(self, peers: Iterable[Peer]) -> None:
        new = [peer for peer in peers if peer.backend not in self._mine | self._strangers]
        if not new:
            return
        ports = _ports(self.root) if self.root is not None else frozenset()
        for peer in new:
            ours = peer.application == self._application or peer.client_port in ports
            (self._mine if ours else self._strangers).add(peer.backend)


def _ports(root: int) -> frozenset[int]:
    """The local ports of all connections of a process and its descendants."""
    import psutil

    ports: set[int] = set()
    try:
        tree = psutil.Process(root).children(recursive=True)
    except psutil.NoSuchProcess:
        return frozenset()
    for process in tree:
        try:
            ports.update(local_port(socket) for socket in process.net_connections("tcp"))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            # Ended since, or it has changed its user; then its application name has to do.
            continue
    return frozenset(ports)
