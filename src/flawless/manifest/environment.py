"""What a child of ours gets to see: nothing but what the manifest and the system give it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from flawless.core.secret import Secret
from flawless.core.settings import Role

if TYPE_CHECKING:
    from flawless.manifest.manifest import Manifest

DATABASE_URL: Final = "DATABASE_URL"
_INHERITED: Final = frozenset({"PATH", "HOME", "LANG", "TZ", "TMPDIR"})
# Without these a Windows program finds neither its libraries, its temporary folder nor its user's files.
_WINDOWS: Final = frozenset(
    {
        "APPDATA",
        "COMSPEC",
        "HOMEDRIVE",
        "HOMEPATH",
        "LOCALAPPDATA",
        "NUMBER_OF_PROCESSORS",
        "PATHEXT",
        "PROCESSOR_ARCHITECTURE",
        "PROGRAMDATA",
        "PROGRAMFILES",
        "SYSTEMDRIVE",
        "SYSTEMROOT",
        "TEMP",
        "TMP",
        "USERPROFILE",
        "WINDIR",
    }
)


def inherited_from(environ: Mapping[str, str]) -> dict[str, str]:
    """PATH, HOME, LANG, LC_*, TZ, TMPDIR, and what Windows cannot start without."""
    names = _INHERITED | _WINDOWS if sys.platform == "win32" else _INHERITED
    return {name: value for name, value in environ.items() if name.upper() in names or name.startswith("LC_")}


def child_environment(
    manifest: Manifest, service: str, deploy_id: str, database_url: Secret | str | None
) -> dict[str, str]:
    """A service's whole environment, secrets revealed. `database_url` is that of the embedded database, or None."""
    settings = manifest.services[service]
    plain = {name: manifest.variables[name].value for name in sorted(manifest.env_names)}
    environment = {
        **manifest.inherited,
        **{name: value for name, value in plain.items() if isinstance(value, str)},
        **secrets_of(manifest, service, database_url),
        **settings.env,
        "FLAWLESS_DEPLOY_ID": deploy_id,
    }
    return environment | {"PORT": str(settings.port)} if settings.port is not None else environment


def secrets_of(manifest: Manifest, service: str, database_url: Secret | str | None) -> dict[str, str]:
    """The secrets a service is entitled to: those it lists; with no list a backend gets all, any other role none."""
    settings = manifest.services[service]
    known = {name: secret.reveal() for name, secret in manifest.secrets.items()}
    if database_url is not None:
        known[DATABASE_URL] = database_url.reveal() if isinstance(database_url, Secret) else database_url
    if settings.secrets is not None:
        return {name: known[name] for name in settings.secrets if name in known}
    return known if settings.role is Role.BACKEND else {}


def tool_environment(manifest: Manifest) -> dict[str, str]:
    """What a migration tool or a build sees: what every child sees, and all secrets but the tunnel's token."""
    plain = {name: manifest.variables[name].value for name in sorted(manifest.env_names)}
    tunnel = manifest.settings.tunnel
    token = tunnel.token if tunnel is not None else Secret("")
    return {
        **manifest.inherited,
        **{name: value for name, value in plain.items() if isinstance(value, str)},
        **{name: secret.reveal() for name, secret in manifest.secrets.items() if secret != token},
    }
