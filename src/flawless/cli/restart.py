"""flawless restart."""

from __future__ import annotations

import click

from flawless.cli.options import Common, common
from flawless.cli.ordering import Order, carry_out


@click.command(name="restart")
@click.argument("services", nargs=-1)
@common
def command(flags: Common, services: tuple[str, ...]) -> int:
    """Stop services and start them again, through their gates. One that fails runs again as before."""
    return carry_out(Order.RESTART, flags, services)
