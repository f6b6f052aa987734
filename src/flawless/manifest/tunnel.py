"""The tunnel as Flawless runs it: a kept service like any other, made of the table [tunnel]."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from flawless.core.settings import HttpProbe, Role, ServiceSettings, Settings, TunnelProvider, TunnelSettings

TOKEN: Final = "TUNNEL_TOKEN"  # noqa: S105 - the variable's name
"""Where cloudflared looks for the token: /proc shows arguments to everybody, and this to its own user alone."""


def declared(settings: Settings) -> TunnelSettings | None:
    """The table, where it asks for a tunnel."""
    tunnel = settings.tunnel
    return tunnel if tunnel is not None and tunnel.provider is not TunnelProvider.NONE else None


def hostname(settings: Settings) -> str:
    """The public name: the table's own, else that of the first public check, else base_url's; "" where none is said."""
    tunnel = declared(settings)
    addresses = [one.url for one in settings.public.checks] if settings.public else []
    names = (_host(address) for address in (*addresses, settings.base_url))
    told = tunnel.hostname.strip().lower().rstrip(".") if tunnel else ""
    return told or next(filter(None, names), "")


def config_path(tunnel: TunnelSettings, root: Path, environ: Mapping[str, str]) -> Path | None:
    """The configuration file; None for a tunnel that runs by a token. `~` is the HOME that cloudflared will have."""
    if tunnel.token:
        return None
    first, _, below = tunnel.config.partition("/")
    home = environ.get("HOME") or environ.get("USERPROFILE")
    return Path(home, below) if first == "~" and home else root / tunnel.config


def as_service(settings: Settings, root: Path, environ: Mapping[str, str]) -> ServiceSettings | None:
    """The service; None where no tunnel is declared. It comes behind every other: what it carries is there first."""
    tunnel = declared(settings)
    if tunnel is None:
        return None
    config = config_path(tunnel, root, environ)
    host, _, port = tunnel.metrics.rpartition(":")
    own = ["--config", str(config)] if config is not None else []
    return ServiceSettings.model_construct(
        role=Role.TUNNEL,
        command=(*tunnel.command, "tunnel", *own, "--no-autoupdate", "--metrics", tunnel.metrics, "run"),
        port=int(port),
        host=host.strip("[]"),
        after=tuple(settings.services),
        stop_timeout=settings.timeouts.stop,
        env={TOKEN: tunnel.token.reveal()} if tunnel.token else {},
        ready=(HttpProbe(http="/ready", status=(200,), timeout=2.0),),
    )


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
