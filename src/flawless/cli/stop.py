"""flawless stop."""

from __future__ import annotations

import click

from flawless.cli.options import Common, common
from flawless.cli.ordering import Order, carry_out


@click.command(name="stop")
@click.argument("services", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="The embedded database and whatever else is ours too.")
@common
def command(flags: Common, services: tuple[str, ...], *, everything: bool) -> int:
    """Stop services, the whole process tree of each. Without names: all of them, the database excepted."""
    return carry_out(Order.STOP, flags, services, everything=everything)
