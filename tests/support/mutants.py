"""A product that was broken on purpose: without the check that a scenario is about, the scenario must fail.

    with failing(stack, NOT_ASKED.format("ports", "PortFree"), told="PORT_HELD_FOREIGN"):
        test_a_stranger_on_the_port_stops_the_deploy(stack)

What a scenario asserts is asserted of the world, so the same world then ends differently.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from support.stacks import Stack

_FAILED: Final = (AssertionError, ValueError, subprocess.TimeoutExpired)
"""How a scenario fails: ValueError is one thing that was to be there, and none or several are."""

NOT_ASKED: Final = """
from flawless.checks import {0}
from flawless.core.check import Passed
async def ask(self, limit): return Passed()
{0}.{1}.ask = ask
"""
"""A check, by its module and class, that says yes without having looked."""

ASKED_ONCE: Final = """
from flawless.core import gate
from flawless.core.check import Failed
settled = gate._Gate._is_settled
def once(self, finding):
    self._tell()
    return settled(self, finding) or isinstance(finding.outcome, Failed)
gate._Gate._is_settled = once
"""
"""A gate that takes the first no for an answer."""

NO_WAY_BACK: Final = """
from flawless.deploy.rollback import UndoStack
async def unwind(self):
    self._undos.clear()
    return []
UndoStack.unwind = unwind
"""
"""A rollback that undoes nothing, and says that it did."""


@contextmanager
def failing(stack: Stack, mutation: str, *, told: str) -> Iterator[None]:
    """The scenario inside fails, and its failure matches `told`. What a broken product leaves behind is ended here."""
    stack.mutation = mutation
    try:
        with pytest.raises(_FAILED, match=told):
            yield
    finally:
        stack.mutation = ""
        stack.kill()


@contextmanager
def failing_with(stack: Stack, file: str, *edits: tuple[str, str], told: str) -> Iterator[None]:
    """The same for what runs in processes of its own (keepers, guards): their lines are edited."""
    with edited(stack, file, *edits), failing(stack, "", told=told):
        yield


@contextmanager
def edited(stack: Stack, file: str, *edits: tuple[str, str]) -> Iterator[None]:
    """Everything the stack runs meanwhile comes from a copy of the product, in which lines of a file are replaced."""
    original, stack.product = stack.product, stack.folder / "another product"
    if original != stack.product:  # the times are copied too, so that only the edited file is compiled anew
        shutil.copytree(original, stack.product)
    path = stack.product / "flawless" / file
    text = path.read_text()
    for line, other in edits:
        assert text.count(line) == 1, f"{file} has changed: {line!r} is no longer the one line to replace"
        text = text.replace(line, other)
    path.write_text(text)
    try:
        yield
    finally:
        stack.product = original
