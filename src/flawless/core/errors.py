"""What can go wrong, as a tree. An error knows its exit code and ends with what to do.

FlawlessError              1
├── UsageError            64   wrong use of the command line
├── LockHeld              75   somebody else holds the deploy lock
├── ConfigInvalid         78   the manifest cannot be read or is invalid
├── CommandFailed          1   an order to a keeper, a database or a tool did not work
└── Interrupted      129-143   hang-up, Ctrl-C, SIGTERM
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class FlawlessError(Exception):
    """An error a person is shown: the reason code, the cause in one sentence, what was seen, what to do."""

    exit_code: int = 1
    code: str = "DEPLOY_FAILED"

    def __init__(
        self, cause: str, *, code: str | None = None, evidence: Sequence[str] = (), next_steps: Sequence[str] = ()
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.code = code or type(self).code
        self.evidence = tuple(evidence)
        self.next_steps = tuple(next_steps)


class UsageError(FlawlessError):
    """Wrong use of the command line."""

    exit_code = 64
    code = "CONFIG_USAGE"


class LockHeld(FlawlessError):
    """Somebody else holds the deploy lock."""

    exit_code = 75
    code = "LOCK_HELD"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the manifest: where, what was found, what is allowed, what was probably meant."""

    path: str
    found: str
    allowed: str
    suggestion: str | None = None
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = f" ({self.file}:{self.line})" if self.file and self.line else f" ({self.file})" if self.file else ""
        meant = f"; {self.suggestion}" if self.suggestion else ""
        return f"{self.path}: {self.found}; {self.allowed}{meant}{place}"


class ConfigInvalid(FlawlessError):
    """The manifest cannot be read or is invalid; carries every problem found, not the first."""

    exit_code = 78
    code = "CONFIG_INVALID"

    def __init__(self, problems: Sequence[Problem], *, cause: str | None = None) -> None:
        many = f"{len(problems)} problems" if len(problems) != 1 else "1 problem"
        super().__init__(
            cause or f"the manifest has {many}",
            evidence=[str(problem) for problem in problems],
            next_steps=["mend the lines above, then: flawless config validate"],
        )
        self.problems = tuple(problems)


class CommandFailed(FlawlessError):
    """An order to a keeper, a database or a tool did not work."""


class Interrupted(FlawlessError):
    """A signal asked us to end. The exit code is 128 + the signal's number."""

    code = "DEPLOY_INTERRUPTED"

    def __init__(self, signal_number: int, signal_name: str, command: str = "flawless deploy") -> None:
        super().__init__(f"interrupted by {signal_name}", next_steps=[f"run the command again: {command}"])
        self.signal_number = signal_number
        self.signal_name = signal_name
        self.exit_code = 128 + signal_number
