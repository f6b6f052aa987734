"""Where a keeper is spoken to: a unix socket in its run folder, whatever the length of that folder's path."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

TYPE_CHECKING = False  # the module typing would be a tenth of a keeper
if TYPE_CHECKING:
    from typing import Final

SOCKET: Final = "control.sock"


@contextlib.contextmanager
def address(folder: str) -> Iterator[str]:
    """A short path of the socket, valid inside the block: unix(7) allows 107 bytes, a project's path may be longer."""
    if sys.platform != "linux":
        import tempfile

        with tempfile.TemporaryDirectory(dir="/tmp") as short:
            os.symlink(folder, f"{short}/r")
            yield f"{short}/r/{SOCKET}"
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)
