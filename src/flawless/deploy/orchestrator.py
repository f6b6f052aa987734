"""The state machine of a deploy: walk the phases, and on the first failure go back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from flawless.core.check import Failed, Outcome, Passed, Skipped
from flawless.core.errors import FlawlessError, Interrupted
from flawless.core.event import Failure, PhaseEnded, PhaseStarted, RolledBack, Verdict
from flawless.core.phase import DeployResult, Phase, PhaseStatus, after
from flawless.core.reason import Reason
from flawless.deploy.run import Run, Step


class Orchestrator:
    """Walks one run from PRECHECK to its verdict.

    `interrupt` may be called at any moment, from a signal handler: the first call ends the walk and rolls back, the
    second abandons the rollback and says what is left.
    """

    def __init__(self, run: Run, steps: Mapping[Phase, Step]) -> None:
        self._run = run
        self._steps = steps
        self._walk: asyncio.Task[Outcome] | None = None
        self._rollback: asyncio.Task[tuple[PhaseStatus, str | None]] | None = None
        self._interrupted: Interrupted | None = None

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
        task = self._rollback if self._interrupted else self._walk
        self._interrupted = interrupted
        if task is not None:
            task.cancel()

    async def _enter(self, phase: Phase) -> PhaseStatus:
        self._run.phase = phase
        started = self._run.clock.monotonic()
        self._run.tell(PhaseStarted(phase))
        status, because = await self._do(phase)
        self._run.tell(PhaseEnded(phase, status, self._run.clock.monotonic() - started, because))
        return status

    async def _do(self, phase: Phase) -> tuple[PhaseStatus, str | None]:
        if phase is Phase.FAILURE_ROLLBACK:
            return await self._roll_back()
        match await self._step(phase):
            case Failed() as failed:
                self._fail(phase, failed)
                return PhaseStatus.FAILED, failed.cause
            case Skipped(because=because):
                return PhaseStatus.SKIPPED, because
            case Passed():
                return PhaseStatus.PASSED, None

    async def _step(self, phase: Phase) -> Outcome:
        """The step's outcome; an interruption, a refusal and a fault of our own are failures like any other."""
        if (interruption := self._interruption()) is not None:
            return interruption
        self._walk = asyncio.ensure_future(self._steps[phase].run(self._run))
        try:
            return await self._walk
        except asyncio.CancelledError:
            if (interruption := self._interruption()) is None:
                raise
            return interruption
        except FlawlessError as error:
            return _refusal(error)
        except Exception as error:  # noqa: BLE001 - a fault of our own must end in a rollback and a report, not in a traceback
            return _fault(error)
        finally:
            self._walk = None

    def _interruption(self) -> Failed | None:
        if self._interrupted is None:
            return None
        return Failed(
            Reason.DEPLOY_INTERRUPTED,
            self._interrupted.cause,
            ("what this run had changed is undone, see the rollback",),
            self._interrupted.next_steps,
        )

    def _fail(self, phase: Phase, failed: Failed) -> None:
        self._run.tell(Failure(phase, failed.reason, failed.cause, failed.evidence, failed.next_steps))

    async def _roll_back(self) -> tuple[PhaseStatus, str | None]:
        if not self._run.undo.pending():
            self._run.tell(RolledBack("not needed", ()))
            return PhaseStatus.PASSED, "nothing had been changed"
        self._rollback = asyncio.ensure_future(self._unwind())
        with suppress(asyncio.CancelledError):
            await self._rollback
        left = self._run.undo.pending()
        if left:
            undone = tuple(f"NOT DONE: {sentence}" for sentence in left)
            self._run.tell(RolledBack("failed", (*undone, "the rollback was abandoned by a second interruption")))
            return PhaseStatus.FAILED, "abandoned"
        return self._rollback.result()

    async def _unwind(self) -> tuple[PhaseStatus, str | None]:
        unwound = await self._run.undo.unwind()
        failed = [one for one in unwound if one.error]
        self._run.tell(RolledBack("failed" if failed else "done", tuple(str(one) for one in unwound)))
        return (PhaseStatus.FAILED, str(failed[0])) if failed else (PhaseStatus.PASSED, None)

    def _judge(self, last: Phase) -> Verdict:
        verdict = self._verdict(last)
        self._run.tell(verdict)
        return verdict

    def _verdict(self, last: Phase) -> Verdict:
        if last is not Phase.SUCCESS:
            exit_code = 128 + self._interrupted.signal_number if self._interrupted else 1
            return Verdict(DeployResult.FAILURE, exit_code)
        return Verdict(DeployResult.PARTIAL, 2) if self._run.is_partial else Verdict(DeployResult.SUCCESS, 0)


def _refusal(error: FlawlessError) -> Failed:
    return Failed(
        Reason(error.code),
        error.cause,
        error.evidence or (error.cause,),
        error.next_steps or (f"flawless explain {error.code}",),
    )


def _fault(error: Exception) -> Failed:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f"{frame.tb_frame.f_code.co_qualname}, line {frame.tb_lineno}" if frame else "unknown"
    return Failed(
        Reason.DEPLOY_INTERNAL,
        "Flawless itself made a mistake",
        (f"{type(error).__name__}: {error}", f"in {place}"),
        ("report it with this deploy report", "try again: flawless deploy"),
    )
