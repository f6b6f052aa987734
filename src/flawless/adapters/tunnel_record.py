"""The last verdict on the tunnel, for those who ask later and ask nobody: `flawless status`, the next deploy."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from flawless.adapters.files import ensure_private_folder, write_atomically

FILE: Final = "tunnel.json"


@dataclass(frozen=True, slots=True)
class TunnelRecord:
    """`verdict` is the name of a row of the table, `code` its reason, None where the name leads here. `at`: a stamp."""

    verdict: str
    code: str | None
    at: str
    hostname: str
    schema_version: int = 1


def write(state: Path, record: TunnelRecord) -> None:
    path = ensure_private_folder(state) / FILE
    write_atomically(path, json.dumps(asdict(record), indent=1).encode() + b"\n")


def read(state: Path) -> TunnelRecord | None:
    """None before the first verdict, and where the file is damaged: the next verdict writes it anew."""
    try:
        record = TunnelRecord(**json.loads((state / FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    told = (record.verdict, record.at, record.hostname)
    return record if all(isinstance(one, str) for one in told) else None
