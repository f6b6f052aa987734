"""`python -m board_backend`: serve on 127.0.0.1 until SIGTERM."""

from __future__ import annotations

import uvicorn

from .app import create_app
from .settings import Settings


def main() -> None:
    settings = Settings.from_environment()
    # A second for what is under way; whoever stops us is waiting for the port.
    uvicorn.run(
        create_app(settings), host="127.0.0.1", port=settings.port, timeout_graceful_shutdown=1, server_header=False
    )


if __name__ == "__main__":
    main()
