"""flawless deploy: bring the stack up, verified."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from flawless.cli.interruption import interruptions
from flawless.cli.options import Common, common
from flawless.cli.streams import ensure_told, go_on_unheard
from flawless.core.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from flawless.core.event import Reader, Verdict
    from flawless.wiring import Stack


@click.command(name="deploy", help="Bring the stack up, verified; or say exactly why not, and put things back.")
@click.option("--json-lines", is_flag=True, envvar="FLAWLESS_JSON_LINES", help="Every event as a JSON line.")
@common
def command(flags: Common, *, json_lines: bool) -> int:
    from flawless.wiring import Stack

    if flags.json and json_lines:
        raise UsageError(
            "--json promises one document, and --json-lines a line for each event: one of the two",
            next_steps=["for the report: flawless deploy --json", "for the events: flawless deploy --json-lines"],
        )
    go_on_unheard()
    return asyncio.run(deploy(Stack.load(flags.config, flags.environment), flags, json_lines=json_lines))


async def deploy(stack: Stack, flags: Common, *, json_lines: bool) -> int:
    """The exit code of one deploy."""
    from flawless.cli.terminal import JsonLines, Terminal, show_verdict

    last = _Report()
    with stack.lock.held("flawless deploy", stack.clock.now()), Terminal(flags, stack.name) as terminal:
        stack.prepare()
        try:
            verdict = await _walked(stack, [last, terminal, *([JsonLines()] if json_lines else [])])
        finally:
            await stack.aclose()
    if not json_lines:
        show_verdict(last.report(), last.path, stack.address, flags, stack.flags)
    code = verdict.exit_code if verdict.exit_code is not None else 1
    ensure_told("the deploy succeeded" if code in {0, 2} else "the deploy failed", 1 if code == 2 else code)
    return code


async def _walked(stack: Stack, readers: Sequence[Reader]) -> Verdict:
    def interrupt(interrupted: Interrupted) -> None:
        """Called between two steps of the loop alone, and there is none before the deployment is there."""
        deployment.interrupt(interrupted)

    with interruptions(interrupt):
        from flawless.wiring.deploying import Deploying  # only now: loading it takes as long as a keeper to boot

        deploying = Deploying(stack, readers)
        deploying.settle()
        deployment = deploying.deployment()
        return await deployment.deploy()


class _Report:
    """Remembers where the report was written."""

    def __init__(self) -> None:
        self.path = ""

    def __call__(self, stamped: Any) -> None:
        from flawless.core.event import RunEnded

        if isinstance(stamped.event, RunEnded):
            self.path = stamped.event.report

    def report(self) -> dict[str, Any]:
        from pathlib import Path

        report: dict[str, Any] = json.loads(Path(self.path).read_bytes())
        return report
