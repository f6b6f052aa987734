"""Identifiers that sort by time: a deploy's, an incident's, a report's."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from datetime import UTC, datetime


def deploy_id(now: datetime) -> str:
    """20261123T141502Z-3f9c2a: UTC, then six random hexadecimal digits."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def report_stamp(now: datetime) -> str:
    """20261123T141502123Z: UTC with milliseconds."""
    utc = now.astimezone(UTC)
    return f"{utc:%Y%m%dT%H%M%S}{utc.microsecond // 1000:03d}Z"


def uuid7(now: datetime) -> uuid.UUID:
    """A UUID of version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, then random bits."""
    return _uuid7(now, secrets.token_bytes(10))


def uuid7_of(moment: datetime, seed: str) -> uuid.UUID:
    """The one UUID of version 7 for this moment and seed: who writes the same twice does so under the same id."""
    return _uuid7(moment, hashlib.sha256(seed.encode()).digest()[:10])


def _uuid7(moment: datetime, bits: bytes) -> uuid.UUID:
    milliseconds = int(moment.timestamp() * 1000)
    value = (milliseconds & (1 << 48) - 1) << 80 | int.from_bytes(bits)
    value = value & ~(0xF << 76) | 7 << 76
    return uuid.UUID(int=value & ~(0b11 << 62) | 0b10 << 62)
