"""What cloudflared would be started with: a token, or a file with its credentials and rules. Is it there, and whole?"""

from __future__ import annotations

import asyncio
import json
import shlex
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from flawless.checks.tunnel.ingress import Place, Rule, complaints, first_match, rules_of
from flawless.core.check import Failed, Outcome, Passed
from flawless.core.connector import Connector, tunnel_of_token
from flawless.core.port import WILDCARDS
from flawless.core.reason import Reason
from flawless.core.secret import Secret
from flawless.core.settings import Role
from flawless.manifest import Manifest
from flawless.manifest.tunnel import config_path, hostname
from flawless.manifest.tunnel import declared as table_of

_SIZE_LIMIT: Final = 64 * 1024
"""Bytes of a configuration file; a real one has a few hundred."""

_LOCALHOST: Final = frozenset({"localhost", "127.0.0.1", "::1"}) | WILDCARDS

_ORIGIN_ROLES: Final = (Role.PROXY, Role.FRONTEND, Role.BACKEND)
"""Who may stand behind a public name; the likeliest first."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The tunnel that the manifest declares. `config` is None with a token.

    `tunnel`: the id that `[external.cloudflare]` names, or nothing. `origins`: host and port of the services that may
    stand behind the public name, the likeliest first.
    """

    hostname: str
    config: Path | None
    token: Secret = field(default_factory=lambda: Secret(""))
    tunnel: str = ""
    origins: tuple[tuple[str, int], ...] = ()
    path: str = "/"

    @property
    def origin(self) -> str:
        """The service as a rule names it."""
        host, port = self.origins[0] if self.origins else ("127.0.0.1", 0)
        local = "127.0.0.1" if host in {"localhost", *WILDCARDS} else host
        place = f"[{local}]" if ":" in local else local
        return f"http://{place}:{port or 'PORT'}"

    @property
    def rule(self) -> tuple[str, str]:
        """The two lines of a rule for the public name."""
        return f"- hostname: {self.hostname}", f"  service: {self.origin}"


def declared(manifest: Manifest) -> Tunnel | None:
    """The tunnel of a manifest; None where it declares none."""
    settings = table_of(manifest.settings)
    if settings is None:
        return None
    cloudflare = manifest.settings.external.cloudflare
    return Tunnel(
        hostname=hostname(manifest.settings),
        config=config_path(settings, manifest.root, manifest.inherited),
        token=settings.token,
        tunnel=cloudflare.tunnel.strip().lower() if cloudflare else "",
        origins=origins_of(manifest),
    )


def origins_of(manifest: Manifest) -> tuple[tuple[str, int], ...]:
    """Host and port of the services that may stand behind a public name, the likeliest first."""
    services = [one for one in manifest.settings.services.values() if one.role in _ORIGIN_ROLES]
    likely = sorted(services, key=lambda one: _ORIGIN_ROLES.index(one.role))
    return tuple((one.host, one.port) for one in likely if one.port is not None)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration file of cloudflared, as far as it concerns us. `rules` is None where it has no `ingress`.

    `has_credentials`: other than by `credentials`, the named file.
    """

    path: Path
    tunnel: str = ""
    credentials: str = ""
    metrics: str = ""
    rules: tuple[Rule, ...] | None = None
    has_credentials: bool = False


class Unusable(ValueError):
    """A file that cloudflared cannot be started with: what is wrong, and in which line."""

    def __init__(self, said: str, line: int | None = None) -> None:
        super().__init__(said)
        self.line = line


def read(path: Path) -> ConfigFile:
    """The file. Raises OSError, or Unusable."""
    with path.open("rb") as file:
        data = file.read(_SIZE_LIMIT + 1)
    if len(data) > _SIZE_LIMIT:
        raise Unusable(f"it is larger than {_SIZE_LIMIT // 1024} KiB")
    document, lines = _parsed(data)
    if not isinstance(document, dict):
        raise Unusable("it is no YAML mapping", 1)
    ingress = document.get("ingress")
    if ingress is not None and not (isinstance(ingress, list) and all(isinstance(one, dict) for one in ingress)):
        raise Unusable("`ingress` is no list of rules", lines.get("ingress"))
    return ConfigFile(
        path=path,
        tunnel=_text(document, "tunnel"),
        credentials=_text(document, "credentials-file"),
        metrics=_text(document, "metrics"),
        rules=rules_of(ingress, [lines[f"ingress.{at}"] for at in range(len(ingress))]) if ingress else None,
        has_credentials=any(document.get(key) for key in ("token", "token-file", "credentials-contents")),
    )


def file_of(connector: Connector) -> ConfigFile | None:
    """The file that a process was started with, where this user may read it and it is still whole."""
    try:
        return read(connector.config) if connector.config else None
    except (OSError, Unusable):
        return None


def may_carry(connector: Connector, tunnel: Tunnel) -> bool:
    """Whether that process may be the one for our name: what it was told does not name another tunnel, or, where
    nothing says which it should be, other names alone.
    """
    file, wanted = file_of(connector), expected(tunnel)
    if not wanted:
        rules = file.rules if file else None
        return rules is None or any(one.hostname == tunnel.hostname or leads_to_us(one, tunnel) for one in rules)
    told = connector.tunnel or (file.tunnel if file else "")
    return not _is_id(told) or told.lower() == wanted


def leads_to_us(rule: Rule, tunnel: Tunnel) -> bool:
    """It leads to a service of this stack."""
    place = rule.place
    return place is not None and any(_is_same(place, host, port) for host, port in tunnel.origins)


def _is_same(place: Place, host: str, port: int) -> bool:
    if place.port != port:
        return False
    both_local = place.host in _LOCALHOST and host in _LOCALHOST
    # A service on the wildcard is reached by every address of this machine, and by its name.
    return both_local or place.host == host or host in WILDCARDS


def _parsed(data: bytes) -> tuple[Any, dict[str, int]]:
    """The document, and the lines of its `ingress` and of each rule in it."""
    import yaml

    try:
        text = data.decode("utf-8")
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        lines = _lines(root)  # first: what is built from the nodes rewrites them
        return (None if root is None else loader.construct_document(root)), lines
    except UnicodeDecodeError as error:
        raise Unusable("it is not UTF-8", data[: error.start].count(b"\n") + 1) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Unusable(f"it is no YAML: {error.problem}", mark.line + 1 if mark else None) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Unusable(f"it is no YAML: {type(error).__name__}") from None


def _lines(root: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for key, value in root.value if root is not None and root.id == "mapping" else ():
        if key.value == "ingress":
            found["ingress"] = key.start_mark.line + 1
            for at, item in enumerate(value.value if value.id == "sequence" else ()):
                found[f"ingress.{at}"] = item.start_mark.line + 1
    return found


def _text(document: dict[Any, Any], key: str) -> str:
    value = document.get(key)
    return "" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Ready:
    """All that cloudflared needs is there. `tunnel`: its id, or its name where the id stands nowhere here."""

    tunnel: str
    evidence: tuple[str, ...]
    file: ConfigFile | None = None


def look(tunnel: Tunnel) -> Ready | Failed:
    """What would be started, or why nothing can be. Rules are looked at for their form, not for our name."""
    found = _by_file(tunnel, tunnel.config) if tunnel.config is not None else _by_token(tunnel)
    if isinstance(found, Ready) and tunnel.tunnel and _is_id(found.tunnel) and found.tunnel != tunnel.tunnel:
        return _invalid(
            f"the tunnel to be started is not the one that [external.cloudflare] names: {tunnel.tunnel}",
            found.evidence,
            "write one and the same id in both; those there are: cloudflared tunnel list",
        )
    return found


def expected(tunnel: Tunnel, found: Ready | Failed | None = None) -> str:
    """The id of the tunnel that should carry the public name; empty where nothing says. `found`: by `look`."""
    found = found or look(tunnel)
    known = found.tunnel if isinstance(found, Ready) else ""
    return known if _is_id(known) else tunnel.tunnel


def _by_token(tunnel: Tunnel) -> Ready | Failed:
    try:
        found = tunnel_of_token(tunnel.token.reveal())
    except ValueError as error:
        step = "copy the token anew into the variable that [tunnel] token names: cloudflared tunnel token NAME"
        return _invalid("[tunnel] token is no tunnel token", (f"{error}; it is not shown here",), step)
    return Ready(found, (f"a token of tunnel {found}; its rules come from Cloudflare",))


def _by_file(tunnel: Tunnel, path: Path) -> Ready | Failed:
    try:
        file = read(path)
    except FileNotFoundError:
        return _missing(path)
    except OSError as error:
        step = f"see whom it belongs to: ls -l {shlex.quote(str(path))}"
        return _invalid(f"{path} cannot be read", (f"{path}: {error.strerror}",), step)
    except Unusable as error:
        return _invalid(
            f"{path} is no configuration of cloudflared",
            (f"{_place(path, error.line)}: {error}",),
            _edit(path, error.line),
        )
    wrong = list(complaints(file.rules or ()))
    if wrong:
        told = tuple(f"{_place(path, line)}: {said}" for line, said in wrong)
        again = f"see what cloudflared says: cloudflared tunnel --config {shlex.quote(str(path))} ingress validate"
        return _invalid(f"cloudflared refuses the ingress rules of {path}", told, _edit(path, wrong[0][0]), again)
    return _credentials(tunnel, file)


def _credentials(tunnel: Tunnel, file: ConfigFile) -> Ready | Failed:
    if not file.tunnel and not file.has_credentials:
        step = f"write into {file.path}: tunnel: {tunnel.tunnel or '<id>'}"
        return _invalid(f"{file.path} names no tunnel", (f"{file.path} has no key `tunnel`",), step)
    if file.has_credentials:
        return Ready(file.tunnel.lower(), (f"{file.path}: tunnel {file.tunnel or 'of its token'}",), file)
    places = _places(file)
    for place in places:
        try:
            return _of_credentials(file, place, place.read_bytes()[:_SIZE_LIMIT])
        except FileNotFoundError:
            continue
        except OSError as error:  # another user's, whose service it then is
            told = f"its credentials cannot be read here: {place}: {error.strerror}"
            return Ready(file.tunnel.lower(), (f"{file.path}: tunnel {file.tunnel}", told), file)
    return _invalid(
        f"the credentials of tunnel {file.tunnel} are missing",
        tuple(f"not there: {place}" for place in places),
        f"write where they are into {file.path}: credentials-file: {Path(places[0]).parent}/<id>.json",
        "or make them anew: cloudflared tunnel token --cred-file FILE NAME",
    )


def _places(file: ConfigFile) -> list[Path]:
    """Where cloudflared looks: the named file, or one beside cert.pem or the configuration."""
    if file.credentials:
        return [Path(file.credentials).expanduser()]
    folders = dict.fromkeys([file.path.parent, Path("~/.cloudflared").expanduser(), Path("/etc/cloudflared")])
    return [folder / f"{file.tunnel}.json" for folder in folders]


def _of_credentials(file: ConfigFile, place: Path, data: bytes) -> Ready | Failed:
    try:
        found = json.loads(data)["TunnelID"]
        known = str(uuid.UUID(found))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        step = "make them anew: cloudflared tunnel token --cred-file FILE NAME"
        return _invalid(f"{place} holds no credentials of a tunnel", (f"{place}: no JSON with a TunnelID",), step)
    if _is_id(file.tunnel) and file.tunnel.lower() != known:
        told = (f"{file.path}: tunnel {file.tunnel}", f"{place}: of tunnel {known}")
        return _invalid("the credentials are of another tunnel", told, _edit(file.path, None))
    return Ready(known, (f"{file.path}: tunnel {file.tunnel}", f"credentials: {place}"), file)


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _missing(path: Path) -> Failed:
    return Failed(
        Reason.TUNNEL_CONFIG_MISSING,
        "cloudflared has neither a token nor a configuration file",
        ("[tunnel] token is not set, or blank", f"not there: {path}"),
        (
            "give the token of the tunnel by a variable: [tunnel] token in flawless.toml",
            "or make a tunnel and its file: cloudflared tunnel login; cloudflared tunnel create NAME",
        ),
    )


def _invalid(cause: str, evidence: Sequence[str], *steps: str) -> Failed:
    return Failed(
        Reason.TUNNEL_CONFIG_INVALID, cause, tuple(evidence), (*steps, "ask again: flawless check tunnel.configured")
    )


def _edit(path: Path, line: int | None) -> str:
    return f"mend it: {_place(path, line)}"


def _place(path: Path, line: int | None) -> str:
    return f"{path}:{line}" if line else str(path)


def no_rule(tunnel: Tunnel, evidence: Sequence[str], file: ConfigFile | None) -> Failed:
    """The public name is in no rule; with the very lines to add, and where."""
    steps: tuple[str, ...] = (f"add before the last rule{_line_of_last(file)}:", *tunnel.rule)
    if file is None:
        what = f"{tunnel.hostname} to {tunnel.origin}"
        steps = (f"add a public hostname in Cloudflare's dashboard (Networks, Tunnels): {what}",)
    elif not file.rules:
        steps = (f"add to {file.path}:", "ingress:", *tunnel.rule, "- service: http_status:404")
    cause = f"no rule of the tunnel names {tunnel.hostname}, so its visitors get an error from cloudflared itself"
    return Failed(Reason.TUNNEL_NO_RULE, cause, tuple(evidence), steps)


def _line_of_last(file: ConfigFile | None) -> str:
    return f", {_place(file.path, file.rules[-1].line)}" if file and file.rules else ""


@dataclass(frozen=True, slots=True)
class TunnelConfigured:
    """cloudflared has what it needs: a token, or a file with credentials and with a rule for the public name."""

    tunnel: Tunnel
    optional: bool = False

    id = "tunnel.configured"
    claim = "cloudflared has what it needs to carry the public name"

    async def ask(self, limit: float) -> Outcome:
        try:
            async with asyncio.timeout(limit):
                return await asyncio.to_thread(self.look)
        except TimeoutError:
            told = (f"{self.tunnel.config} was not read within {limit:g} s",)
            return _invalid("the configuration of cloudflared cannot be read", told, "see which disk it is on: df .")

    def look(self) -> Outcome:
        if not self.tunnel.hostname:
            step = 'write the public name: [tunnel] hostname = "www.example.org" in flawless.toml'
            return _invalid(
                "[tunnel] hostname is not set", ("nothing says which public name the tunnel carries",), step
            )
        found = look(self.tunnel)
        if isinstance(found, Failed):
            return found
        if found.file is None:
            return Passed(found.evidence)
        rule = first_match(found.file.rules or (), self.tunnel.hostname, self.tunnel.path)
        if rule is None or (rule.is_status and rule.is_catch_all):
            met = (
                f"{_place(found.file.path, rule.line)}: its visitors meet {rule}"
                if rule
                else f"{found.file.path} has no rules"
            )
            return no_rule(self.tunnel, (*found.evidence, met), found.file)
        return Passed((*found.evidence, f"{_place(found.file.path, rule.line)}: {rule}"))
