"""Where runs are kept: journals under the state folder, reports under logs, each for its time."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from flawless.adapters.files import AppendFile, Reserve, ensure_private_folder, sweep_temporary, write_atomically
from flawless.core.ids import report_stamp

KEPT: Final = timedelta(days=30)
ALWAYS_KEPT: Final = 5
_REPORT: Final = "deploy-report-"
_AT_WORK: Final = 60.0
"""Seconds within which a file that is half written may be a report of another environment's deploy, which goes on."""


class Archive:
    """Journals and reports of one stack in one environment; the reports of the others lie in the same folder."""

    def __init__(self, state: Path, logs: Path, name: str, environment: str | None = None) -> None:
        self._state = state
        self._journals = state / "journal"
        self._logs = logs
        self._name = name
        self._environment = environment
        self.reserve = Reserve(state / "reserve")

    def open_journal(self, deploy_id: str) -> AppendFile:
        return AppendFile(ensure_private_folder(self._journals) / f"{deploy_id}.jsonl")

    def journals(self) -> list[Path]:
        """All journals, oldest first."""
        return sorted(self._journals.glob("*.jsonl"))

    def reports(self) -> list[Path]:
        """All JSON reports of this environment, oldest first; their names sort by time."""
        return [path for path in self._everybodys() if self._is_ours(path)]

    def last_report(self) -> Path | None:
        """The newest of them, without reading more than is needed to find it."""
        return next((path for path in reversed(self._everybodys()) if self._is_ours(path)), None)

    def find_report(self, deploy_id: str) -> tuple[Path, Mapping[str, Any]] | None:
        """The report of that run. Half of one, left by a writer that was killed, is removed."""
        for path in reversed(self.reports()):
            report = _read(path)
            if report.get("deploy_id") != deploy_id:
                continue
            if path.with_suffix(".txt").exists():
                return path, report
            path.unlink()
        return None

    def sweep(self) -> None:
        """Removes what killed writers left half-written. The caller holds the deploy lock."""
        known = [self._state / "outbox" / "open", *(path for path in self._state.glob("*") if path.is_dir())]
        for folder in (self._state, *known):
            sweep_temporary(folder)
        sweep_temporary(self._logs, older_than=_AT_WORK)

    def write_report(self, report: Mapping[str, Any], text: str, now: datetime) -> Path:
        """Writes both forms and answers with the path of the JSON one.

        On a full disk the reserve is given up for it; where that does not help either, or the folder cannot be
        written, the report goes to a folder of its own in the system's temporary one. Raises OSError when it does not
        fit there either.
        """
        try:
            return self._write(self._logs, report, text, now)
        except OSError:
            self.reserve.release()
        try:
            return self._write(self._logs, report, text, now)
        except OSError as error:
            elsewhere = self._elsewhere(error)
        try:
            return self._write(elsewhere, report, text, now)
        except OSError:
            elsewhere.rmdir()
            raise

    def _elsewhere(self, error: OSError) -> Path:
        """Where there is no other place either, what is wrong is still the first `error`."""
        try:
            return Path(tempfile.mkdtemp(prefix=f"flawless-{self._name}-"))
        except OSError:  # without a descriptor it says that no folder can be used
            raise error from None

    def prune(self, now: datetime) -> None:
        """Removes reports and journals of more than 30 days, but never the last five."""
        for files in (self.reports(), self.journals()):
            for path in files[:-ALWAYS_KEPT]:
                if _age(path, now) > KEPT:
                    path.unlink(missing_ok=True)
                    path.with_suffix(".txt").unlink(missing_ok=True)

    def _everybodys(self) -> list[Path]:
        return sorted(self._logs.glob(f"{_REPORT}*.json"))

    def _is_ours(self, path: Path) -> bool:
        """One that cannot be read is nobody's, and shown where no environment is named."""
        return _read(path).get("environment") == self._environment

    def _write(self, folder: Path, report: Mapping[str, Any], text: str, now: datetime) -> Path:
        """Another report of the same millisecond moves this one to the next."""
        ensure_private_folder(folder)
        path = folder / f"{_REPORT}{report_stamp(now)}.json"
        document = json.dumps(report, indent=2, ensure_ascii=True) + "\n"
        try:
            write_atomically(path, document.encode(), exclusively=True)
        except FileExistsError:
            return self._write(folder, report, text, now + timedelta(milliseconds=1))
        try:
            write_atomically(path.with_suffix(".txt"), text.encode())
        except OSError:
            path.unlink()  # one run, one report: the next try writes both
            raise
        return path


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        report = json.loads(path.read_bytes())
        return report if isinstance(report, dict) else {}
    return {}


def _age(path: Path, now: datetime) -> timedelta:
    return now - datetime.fromtimestamp(path.lstat().st_mtime, UTC)
