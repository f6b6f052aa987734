"""flawless start."""

from __future__ import annotations

import click

from flawless.cli.options import Common, common
from flawless.cli.ordering import Order, carry_out


@click.command(name="start")
@click.argument("services", nargs=-1)
@common
def command(flags: Common, services: tuple[str, ...]) -> int:
    """Start services that do not run, and what they wait for; returns when they are ready. Without names: all."""
    return carry_out(Order.START, flags, services)
