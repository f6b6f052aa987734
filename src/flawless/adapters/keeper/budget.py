"""When this service was restarted: on disk, so that every keeper and every order to recover counts the same."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable

from flawless.adapters.keeper.record import write_atomically


class Budget:
    """The wall times of the restarts made, in a file of the state folder."""

    def __init__(self, run_folder: str, service: str) -> None:
        state = os.path.dirname(os.path.dirname(os.path.abspath(run_folder)))
        self._path = os.path.join(state, "budget", f"{service}.json")
        self._known: tuple[float, ...] = ()
        self.damage: str | None = None
        """Why nothing could be read the last time; None when it could."""

    def restarts(self) -> tuple[float, ...]:
        """Read anew each time, as others charge it too; without a disk, what is remembered here."""
        self.damage = None
        try:
            with open(self._path, "rb") as file:
                self._known = tuple(float(at) for at in json.loads(file.read())["restarts"])
        except FileNotFoundError:
            self._known = ()
        except (OSError, ValueError, TypeError, KeyError) as error:  # what is remembered stays
            self.damage = f"{self._path}: {type(error).__name__}"
        return self._known

    def set(self, restarts: Iterable[float]) -> None:
        """Remember exactly these."""
        with contextlib.suppress(OSError):  # a full disk must not stop a restart; the count goes on in memory
            self.write(restarts)

    def write(self, restarts: Iterable[float]) -> None:
        """The same; raises OSError where only this process would remember."""
        self._known = tuple(restarts)
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        write_atomically(self._path, json.dumps({"restarts": self._known}).encode())
