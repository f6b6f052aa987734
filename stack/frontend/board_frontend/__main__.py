"""`python -m board_frontend`: serve on 127.0.0.1 until SIGTERM."""

from __future__ import annotations

import uvicorn

from .app import create_app
from .settings import Settings


def main() -> None:
    settings = Settings.from_environment()
    uvicorn.run(
        create_app(settings), host="127.0.0.1", port=settings.port, timeout_graceful_shutdown=1, server_header=False
    )


if __name__ == "__main__":
    main()
