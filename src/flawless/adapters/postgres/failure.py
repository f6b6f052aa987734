"""How the embedded database says no."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flawless.core.errors import CommandFailed


def failed(
    cause: str, *, evidence: Sequence[str] = (), next_steps: Sequence[str] = (), code: str = "DB_EMBEDDED_FAILED"
) -> CommandFailed:
    return CommandFailed(
        cause,
        code=code,
        evidence=evidence,
        next_steps=next_steps or ["flawless explain DB_EMBEDDED_FAILED", "then try again: flawless db start"],
    )


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn what the system refuses into an error a person is shown."""
    try:
        yield
    except OSError as error:
        raise failed(
            f"{doing} did not work: {error.strerror or error}",
            evidence=[str(error)],
            next_steps=[
                f"see who owns it: ls -ld {error.filename}"
                if error.filename
                else "see what was refused: flawless check",
                "run Flawless as the user who owns the project's .flawless folder",
            ],
        ) from error
