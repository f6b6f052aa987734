"""The values that keepers and their clients exchange."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from flawless.adapters.keeper import record
from flawless.adapters.keeper.client import Keeper
from flawless.adapters.keeper.record import Exit, ExitKind, Record, State
from flawless.adapters.keeper.spec import KeeperSpec, LogRule, SpecInvalid
from flawless.adapters.keeper.tree import ProcessId
from flawless.core.errors import CommandFailed
from support.keepers import Nursery

RECORD = Record(
    service="web",
    keeper=ProcessId(10, 20, "boot"),
    child=ProcessId(11, 21, "boot"),
    pgid=11,
    state=State.READY,
    since=time.time(),
    ready=True,
    port=3000,
    deploy_id="20261123T141502Z-3f9c2a",
    fingerprint={"code": "abc"},
    restarts=2,
    last_exit=Exit(ExitKind.SIGNAL, 9, 1.5, time.time(), None, False),
    started_at=time.time(),
    reason=None,
    armed=True,
    log=LogRule("/logs"),
    stop_timeout=15.0,
)


@pytest.mark.parametrize("original", [RECORD, RECORD._replace(child=None, last_exit=None, log=None)])
def test_a_record_survives_the_disk(tmp_path: Path, original: Record) -> None:
    """What was written is read again, equal."""
    record.write(str(tmp_path), original)
    assert record.read(tmp_path) == original


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"protocol": 99}', b"\xff"])
def test_a_record_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    """A torn or foreign file is no record."""
    (tmp_path / record.FILE).write_bytes(content)
    assert record.read(tmp_path) is None


def test_a_spec_survives_the_socket(nursery: Nursery) -> None:
    """What was sent is understood, equal; and its repr shows nothing."""
    spec = nursery.spec(redact=("canary",), fingerprint={"code": "a"}, port=3000)
    assert KeeperSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert repr(spec) == "KeeperSpec('web', ****)"


@pytest.mark.parametrize("field", KeeperSpec._fields)
def test_every_field_of_a_spec_is_checked(nursery: Nursery, field: str) -> None:
    """A value of another kind, or none, is refused by the field's name and without the value."""
    good = nursery.spec().to_json()
    for wrong in (good | {field: [["canary"]]}, {name: value for name, value in good.items() if name != field}):
        with pytest.raises(SpecInvalid, match=field) as refusal:
            KeeperSpec.from_json(wrong)
        assert "canary" not in str(refusal.value)


@pytest.mark.anyio
async def test_a_keeper_that_crashes_leaves_its_reason(nursery: Nursery) -> None:
    """The client tells the last words of a keeper that could not begin."""
    (nursery.run_folder() / "control.sock").mkdir(parents=True)
    with pytest.raises(CommandFailed, match="ended before it answered") as failure:
        await Keeper.spawn(nursery.spec())
    assert "Is a directory" in failure.value.evidence[-1]
