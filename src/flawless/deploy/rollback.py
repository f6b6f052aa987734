"""The way back: what a run changed, newest first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from flawless.core.errors import FlawlessError

Action = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Undo:
    """One change and its way back. `sentence` says, in the past tense, what undoing it did."""

    sentence: str
    action: Action


@dataclass(frozen=True, slots=True)
class Unwound:
    """What became of one undo: `error` is None when it worked."""

    sentence: str
    error: str | None

    def __str__(self) -> str:
        return self.sentence if self.error is None else f"NOT DONE: {self.error} (what was meant: {self.sentence})"


class UndoStack:
    """The undos of a run. A step pushes one before it changes a thing, so that a half-made change is undone too."""

    def __init__(self) -> None:
        self._undos: list[Undo] = []
        self._unwound: list[Unwound] = []

    def push(self, sentence: str, action: Action) -> None:
        self._undos.append(Undo(sentence, action))

    def pending(self) -> list[str]:
        """What would still be undone, newest first."""
        return [undo.sentence for undo in reversed(self._undos)]

    def unwound(self) -> list[Unwound]:
        """What became of those that were undone so far."""
        return list(self._unwound)

    async def unwind(self) -> list[Unwound]:
        """Undoes everything, newest first. One that fails does not keep the older ones from being undone."""
        while self._undos:
            self._unwound.append(await self._undone(self._undos[-1]))
            # An undo leaves the stack only when it is over: if we are cut short it is still named as left to do.
            self._undos.pop()
        return self.unwound()

    async def _undone(self, undo: Undo) -> Unwound:
        try:
            await undo.action()
        except FlawlessError as error:
            return Unwound(undo.sentence, "; ".join([error.cause, *error.evidence]))
        except Exception as error:  # noqa: BLE001 - whatever went wrong with one undo, the others must still be made
            return Unwound(undo.sentence, f"{type(error).__name__}: {error}")
        return Unwound(undo.sentence, None)
