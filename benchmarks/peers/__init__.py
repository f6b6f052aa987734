"""The peers, each from its ordinary package, with the best sensible settings. None is a dependency of the project."""

from __future__ import annotations

from typing import Final

from peers.circus import Circus
from peers.honcho import Honcho
from peers.monit import Monit
from peers.peer import Peer
from peers.pm2 import Pm2
from peers.runit import Runit
from peers.s6 import S6
from peers.supervisor import Supervisor

PEERS: Final[tuple[type[Peer], ...]] = (Supervisor, Circus, Honcho, Pm2, Runit, S6, Monit)

__all__ = ["PEERS", "Peer"]
