"""The state machine of a deploy: walk the phases, and on the first failure go back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from flawless.core.check import Failed, Outcome, Skipped
from flawless.core.errors import FlawlessError, Interrupted
from flawless.core.event import Event, Failure, PhaseEnded, PhaseStarted, RolledBack, Verdict
from flawless.core.fault import fault
from flawless.core.phase import DeployResult, Phase, PhaseStatus, after
from flawless.core.reason import Reason
from flawless.deploy.rollback import Unwound
from flawless.deploy.run import Run, Step

_AFTER_A_FAILED_ROLLBACK: Final = (
    "see what runs and what does not: flawless status",
    "put back the code that worked (git stash, or git checkout COMMIT), then: flawless deploy",
)
_COMMAND: Final = "flawless deploy"
_TOO_LATE: Final = "the run had committed already: what ran before is forgotten, and what runs now was left running"


class Orchestrator:
    """Walks one run from PRECHECK to its verdict.

    `interrupt` may be called at any moment, from a signal handler: the first call ends the walk and rolls back, the
    second abandons the rollback and says what is left.
    """

    def __init__(self, run: Run, steps: Mapping[Phase, Step]) -> None:
        self._run = run
        self._steps = steps
        self._walk: asyncio.Task[Outcome] | None = None
        self._rollback: asyncio.Task[list[Unwound]] | None = None
        self._interrupted: Interrupted | None = None
        self._is_abandoned = False
        self._untold: Failed | None = None

    async def deploy(self) -> Verdict:
        """The verdict; it has been told already."""
        phase: Phase | None = Phase.PRECHECK
        status = PhaseStatus.PASSED
        while phase is not None:
            status = await self._enter(phase)
            phase = after(phase, status)
        return self._judge(self._run.phase)

    def interrupt(self, interrupted: Interrupted) -> None:
        """A signal has come: end the walk; come again: end the rollback. After the commit it comes too late."""
        if self._run.is_committed:
            return
        self._is_abandoned = self._interrupted is not None
        self._interrupted = interrupted
        task = self._rollback if self._is_abandoned else self._walk
        if task is not None:
            task.cancel()

    async def _enter(self, phase: Phase) -> PhaseStatus:
        self._run.phase = phase
        started = self._run.clock.monotonic()
        self.tell(PhaseStarted(phase))
        status, because = await self._do(phase)
        self.tell(PhaseEnded(phase, status, self._run.clock.monotonic() - started, because))
        return status

    def tell(self, event: Event) -> None:
        """What cannot be told fails the next phase: it must never keep us from going back, or from a verdict."""
        try:
            self._run.tell(event)
        except FlawlessError as error:
            self._untold = self._untold or _refusal(error)
        except Exception as error:  # noqa: BLE001 - see above
            self._untold = self._untold or _refusal(fault(error, _COMMAND))

    async def _do(self, phase: Phase) -> tuple[PhaseStatus, str | None]:
        if phase is Phase.FAILURE_ROLLBACK:
            return await self._roll_back()
        match await self._step(phase):
            case Failed() as failed:
                self._fail(phase, failed)
                return PhaseStatus.FAILED, failed.cause
            case Skipped(because=because):
                return PhaseStatus.SKIPPED, because
            case _:
                return PhaseStatus.PASSED, None

    async def _step(self, phase: Phase) -> Outcome:
        """The step's outcome; an interruption, a refusal and a fault of our own are failures like any other."""
        if (before := self._interruption() or self._untold) is not None:
            return before
        self._walk = asyncio.ensure_future(self._steps[phase].run(self._run))
        try:
            return await self._walk
        except asyncio.CancelledError as cancelled:
            if (interruption := self._interruption()) is not None:
                return interruption
            if _is_being_cancelled():
                raise
            return _refusal(fault(cancelled, _COMMAND))
        except FlawlessError as error:
            return _refusal(error)
        except Exception as error:  # noqa: BLE001 - a fault of our own must end in a rollback and a report, not in a traceback
            return _refusal(fault(error, _COMMAND))
        finally:
            self._walk = None

    def _interruption(self) -> Failed | None:
        if self._interrupted is None:
            return None
        return Failed(
            Reason.DEPLOY_INTERRUPTED,
            self._interrupted.cause,
            ("what became of what this run had changed: see the rollback",),
            self._interrupted.next_steps,
        )

    def _fail(self, phase: Phase, failed: Failed) -> None:
        self.tell(Failure(phase, failed.reason, failed.cause, failed.evidence, failed.next_steps))

    async def _roll_back(self) -> tuple[PhaseStatus, str | None]:
        await self._run.aclose()
        if not self._run.undo.pending():
            self.tell(RolledBack("not needed", ()))
            return PhaseStatus.PASSED, "nothing had been changed"
        if not self._is_abandoned and not self._run.is_committed:
            self._rollback = asyncio.ensure_future(self._run.undo.unwind())
            await asyncio.wait([self._rollback])
        return self._rolled_back()

    def _rolled_back(self) -> tuple[PhaseStatus, str | None]:
        """Tells what was undone, what could not be, and what was left."""
        unwound, left = self._run.undo.unwound(), self._run.undo.pending()
        actions = [str(one) for one in unwound] + [f"NOT DONE: {sentence}" for sentence in left]
        if left:
            why = _TOO_LATE if self._run.is_committed else "the rollback was abandoned by a second interruption"
            self.tell(RolledBack("failed", (*actions, why), _AFTER_A_FAILED_ROLLBACK))
            return PhaseStatus.FAILED, why
        failed = next((str(one) for one in unwound if one.error), None)
        steps = _AFTER_A_FAILED_ROLLBACK if failed else ()
        self.tell(RolledBack("failed" if failed else "done", actions, steps))
        return (PhaseStatus.FAILED, failed) if failed else (PhaseStatus.PASSED, None)

    def _judge(self, last: Phase) -> Verdict:
        verdict = self._verdict(last)
        self.tell(verdict)
        return verdict

    def _verdict(self, last: Phase) -> Verdict:
        if last is not Phase.SUCCESS:
            exit_code = 128 + self._interrupted.signal_number if self._interrupted else 1
            return Verdict(DeployResult.FAILURE, exit_code)
        return Verdict(DeployResult.PARTIAL, 2) if self._run.is_partial else Verdict(DeployResult.SUCCESS, 0)


def _is_being_cancelled() -> bool:
    """Whether somebody ends the whole command; a task below us that was cancelled is a fault of ours."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _refusal(error: FlawlessError) -> Failed:
    return Failed(
        Reason(error.code),
        error.cause,
        error.evidence or (error.cause,),
        error.next_steps or (f"flawless explain {error.code}",),
    )
