"""The manifest as frozen, typed settings. Durations are seconds, sizes are bytes, secrets are `Secret`.

Every key's description here is its documentation: docs/settings.md and the JSON schema are made of it.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from flawless.core.duration import DURATION_FORM, SIZE_FORM, parse_duration, parse_size
from flawless.core.secret import Secret

EMBEDDED: Final = "embedded"
SERVICE_NAME: Final = r"^[a-z0-9][a-z0-9_-]{0,62}$"
POSTGRES_URL: Final = re.compile(r"postgres(ql)?(\+[a-z0-9_]+)?://", re.IGNORECASE)
HOUR: Final = 3600.0
DAY: Final = 24 * HOUR


class Role(StrEnum):
    """What a service is for: it decides the phase it starts in and whether it gets secrets unasked."""

    BACKEND = "backend"
    FRONTEND = "frontend"
    PROXY = "proxy"
    WORKER = "worker"
    TUNNEL = "tunnel"
    """Not for a manifest to say: what the table [tunnel] is run as."""


class MigrationTool(StrEnum):
    """Who applies the application's own migrations."""

    ALEMBIC = "alembic"
    PRISMA = "prisma"
    DJANGO = "django"
    COMMAND = "command"
    NONE = "none"


class TunnelProvider(StrEnum):
    """Who carries the public name to this machine."""

    CLOUDFLARED = "cloudflared"
    NONE = "none"


def invalid(allowed: str, suggestion: str = "", *, found: str = "") -> PydanticCustomError:
    """A refusal in the words of `Problem`: what is allowed, what was meant; what was found unless the value says it."""
    context = {"allowed": allowed, "suggestion": suggestion, "found": found}
    return PydanticCustomError("refused", "{allowed}", context)


def _duration(value: object) -> float:
    try:
        return parse_duration(value)
    except ValueError:
        raise invalid(DURATION_FORM) from None


def _size(value: object) -> int:
    try:
        return parse_size(value)
    except ValueError:
        raise invalid(SIZE_FORM) from None


def _whole(allowed: str, minimum: int, maximum: int) -> BeforeValidator:
    def check(value: object) -> int:
        text = value if isinstance(value, str) else str(value) if type(value) is int else ""
        if not re.fullmatch(r"-?\d{1,9}", text, re.ASCII) or not minimum <= int(text) <= maximum:
            raise invalid(allowed)
        return int(text)

    return BeforeValidator(check)


def _switch(value: object) -> bool:
    if value in (True, "true"):
        return True
    if value in (False, "false"):
        return False
    raise invalid("true or false")


def _secret(value: object) -> Secret:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str):
        raise invalid("a text, best of all a variable such as ${NAME}")
    return Secret(value)


def _words(value: object) -> object:
    if isinstance(value, str):
        words = ", ".join(f'"{word}"' for word in value.split())
        raise invalid('a list of words, never a shell string, for example ["npm", "start"]', f"write [{words}]")
    return value


def _program(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not value[0].strip():
        raise invalid('a list of words that begins with a program, for example ["npm", "start"]')
    return value


def _expression(value: str) -> str:
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise invalid(f"a regular expression ({error})") from None
    return value


def _listen(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (host and colon and re.fullmatch(r"\d{1,5}", port, re.ASCII) and 1 <= int(port) <= 65535):
        raise invalid("host:port, for example 127.0.0.1:9180")
    return value


def _as_names(value: dict[str, str]) -> dict[str, str]:
    """Names are the same in capitals, and with the dot of the root behind them."""
    places = ((name.rpartition(":"), place) for name, place in value.items())
    return {f"{host.rstrip('.')}{colon}{port}".lower(): place for (host, colon, port), place in places}


def _route(value: str) -> str:
    if not re.fullmatch(r"/[^\s#]*", value):
        raise invalid("a path on the service itself that begins with a slash, for example /health/live")
    return value


def _statuses(value: object) -> object:
    return value if isinstance(value, (list, tuple)) else (value,)


_TEXT_OR_NUMBER: Final = WithJsonSchema({"type": ["string", "number"]})
_TEXT_OR_INTEGER: Final = WithJsonSchema({"type": ["string", "integer"]})

Duration: TypeAlias = Annotated[float, BeforeValidator(_duration), _TEXT_OR_NUMBER]
Size: TypeAlias = Annotated[int, BeforeValidator(_size), _TEXT_OR_INTEGER]
Port: TypeAlias = Annotated[int, _whole("a port from 1 to 65535", 1, 65535), _TEXT_OR_INTEGER]
Count: TypeAlias = Annotated[int, _whole("a whole number from 1 to 1000", 1, 1000), _TEXT_OR_INTEGER]
Status: TypeAlias = Annotated[int, _whole("an HTTP status from 100 to 599", 100, 599), _TEXT_OR_INTEGER]
Switch: TypeAlias = Annotated[bool, BeforeValidator(_switch), WithJsonSchema({"type": ["boolean", "string"]})]
SecretText: TypeAlias = Annotated[Secret, BeforeValidator(_secret), WithJsonSchema({"type": "string"})]
Argv: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_words)]
Command: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_words), AfterValidator(_program)]
Expression: TypeAlias = Annotated[str, AfterValidator(_expression)]
Listen: TypeAlias = Annotated[str, AfterValidator(_listen)]
Route: TypeAlias = Annotated[str, AfterValidator(_route)]
Statuses: TypeAlias = Annotated[
    tuple[Status, ...],
    BeforeValidator(_statuses),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]}),
]
VariableName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
if TYPE_CHECKING:
    DeclaredRole: TypeAlias = Role
else:  # what a manifest may say; the tunnel's is given by the table [tunnel] alone
    DeclaredRole = Literal[Role.BACKEND, Role.FRONTEND, Role.PROXY, Role.WORKER]
ServiceName: TypeAlias = Annotated[str, Field(pattern=SERVICE_NAME)]


def _time(default: str, minimum: float, maximum: float, description: str) -> Any:
    """A duration with its range. Any, because it stands as the default of fields of type Duration."""
    return Field(default=parse_duration(default), ge=minimum, le=maximum, description=description)


class Table(BaseModel):
    """A table of the manifest: unknown keys are errors, nothing changes after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


class EnvSettings(Table):
    """Where variables come from and which must be there."""

    files: tuple[str, ...] = Field(default=(".env",), description="Files of NAME=value lines; a later one wins.")
    require: tuple[VariableName, ...] = Field(default=(), description="Variables that must be set and not blank.")
    secrets: tuple[VariableName, ...] = Field(
        default=(), description="Further secrets, beside those known by name or form."
    )


class PathSettings(Table):
    """Folders the stack needs."""

    writable: tuple[str, ...] = Field(default=(), description="Folders that must be writable.")


class MigrateSettings(Table):
    """The application's own migrations."""

    tool: MigrationTool = Field(description="The tool that applies them.")
    directory: str = Field(default=".", description="Where the tool is run.")
    apply: Argv = Field(default=(), description='With "command": what applies them.')
    pending: Argv = Field(default=(), description='With "command": what asks for those that are pending.')

    @model_validator(mode="after")
    def _command_has_words(self) -> MigrateSettings:
        if self.tool is MigrationTool.COMMAND and not self.apply:
            raise invalid("with tool = \"command\" a list of words as 'apply'", found="no 'apply'")
        if self.tool is not MigrationTool.COMMAND and (self.apply or self.pending):
            raise invalid(
                "'apply' and 'pending' only with tool = \"command\"", found=f'them beside tool = "{self.tool}"'
            )
        return self


class DatabaseSettings(Table):
    """The application's PostgreSQL."""

    url: SecretText = Field(description='A postgresql:// URL, or the word "embedded", written in the manifest itself.')
    direct_url: SecretText = Field(default=Secret(""), description="Past a pooler, for migrations and locks.")
    tables: tuple[str, ...] = Field(default=(), description="Tables that must exist after the migrations.")
    latency_warning: Duration = _time("2s", 0.001, HOUR, "A slower round trip is a warning.")
    migrate: MigrateSettings | None = Field(default=None, description="The application's own migrations.")

    @property
    def embedded(self) -> bool:
        """Whether the manifest itself says "embedded"; `load` refuses the word when a variable brought it."""
        return self.url.reveal() == EMBEDDED


class ArtefactSettings(Table):
    """A generated file that must be there and newer than its sources."""

    path: str = Field(description="The generated file.")
    sources: tuple[str, ...] = Field(default=(), description="Files that must not be newer than it.")
    build: Argv = Field(default=(), description="The command that makes it.")
    directory: str = Field(default=".", description="Where that command is run.")


class HttpProbe(Table):
    """A request to the service's own port."""

    http: Route = Field(description="The path that is asked.")
    status: Statuses = Field(default=(), description="The status, or a list of which any will do; absent: any 2xx.")
    json_subset: Any = Field(
        default=None, alias="json", description="What the JSON answer must contain; a list means any of its items."
    )
    required: tuple[str, ...] = Field(default=(), description="Services that the answer must call healthy.")
    timeout: Duration = _time("3s", 0.01, HOUR, "The limit of one attempt.")


class TcpProbe(Table):
    """A connection to the service's own port."""

    tcp: Annotated[Literal[True], BeforeValidator(_switch)] = Field(description="true: it takes a connection.")
    timeout: Duration = _time("3s", 0.01, HOUR, "The limit of one attempt.")


class ExecProbe(Table):
    """A command that must end with 0."""

    exec: Command = Field(repr=False, description="The command, run in the service's directory and environment.")
    timeout: Duration = _time("3s", 0.01, HOUR, "The limit of one attempt.")


class LogProbe(Table):
    """A line the service must print."""

    log: Expression = Field(description="A regular expression that is found in a line.")


PROBE_KINDS: Final = ("http", "tcp", "exec", "log")


def _one_kind(value: object) -> object:
    if isinstance(value, Table):
        return value
    kinds = [kind for kind in PROBE_KINDS if kind in value] if isinstance(value, dict) else []
    if len(kinds) != 1:
        found = " and ".join(kinds) if kinds else "none of these" if isinstance(value, dict) else ""
        raise invalid("a table with exactly one of http, tcp, exec, log, for example { tcp = true }", found=found)
    return value


def _probe_tag(value: object) -> str:
    return next(
        f"<{kind}>" for kind in PROBE_KINDS if (kind in value if isinstance(value, dict) else hasattr(value, kind))
    )


Probe: TypeAlias = Annotated[
    Annotated[HttpProbe, Tag("<http>")]
    | Annotated[TcpProbe, Tag("<tcp>")]
    | Annotated[ExecProbe, Tag("<exec>")]
    | Annotated[LogProbe, Tag("<log>")],
    Discriminator(_probe_tag),
    BeforeValidator(_one_kind),
]


class RecoverSettings(Table):
    """The service's own recovery, tried once when it answers that it is not healthy."""

    stats: Route = Field(default="/health/recovery-stats", description="The path that tells what recovery has done.")
    action: Route = Field(default="/health/recover", description="The path that is sent the one POST.")


class RestartSettings(Table):
    """How often a service that dies is started again."""

    delays: tuple[Annotated[Duration, Field(ge=0, le=HOUR)], ...] = Field(
        default=(0.0, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0),
        min_length=1,
        description="Pauses, 0s to 1h, before each start of one that never became ready; the last repeats.",
    )
    limit: Count = Field(default=5, description="Starts, 1 to 1000, made within `within`; the next crash gives up.")
    within: Duration = _time("5m", 1, DAY, "The window in which starts are counted.")
    forget: Duration = _time("10m", 1, DAY, "Good time after which they are forgotten.")


class ServiceSettings(Table):
    """One process of the stack."""

    role: DeclaredRole = Field(description="What it is for.")
    # Both may have secrets put in, and are therefore in no repr.
    command: Command = Field(repr=False, description="The program and its arguments, never a shell string.")
    directory: str = Field(default=".", description="Where it is run.")
    port: Port | None = Field(default=None, description="The port it listens on, 1 to 65535; given to it as PORT.")
    host: str = Field(default="127.0.0.1", min_length=1, description="The address it listens on.")
    env: dict[VariableName, str] = Field(default={}, repr=False, description="Variables of its own.")
    secrets: tuple[VariableName, ...] | None = Field(
        default=None, description="The secrets it gets; absent: a backend gets all, any other role none."
    )
    sources: tuple[str, ...] = Field(
        default=(), description="What counts as its code where there is no git; absent: all but caches and data."
    )
    after: tuple[str, ...] = Field(default=(), description="Further services that must be ready first.")
    stop_timeout: Duration = _time("15s", 0.01, HOUR, "Time to end by itself; absent: timeouts.stop.")
    ready: tuple[Probe, ...] = Field(
        default=(), description="Probes, in order; absent: { tcp = true } with a port, alive for `stable` without."
    )
    recover: RecoverSettings | None = Field(default=None, description="Its own recovery routes.")
    live: Probe | None = Field(default=None, description="Asked by the supervisor; must not depend on the database.")
    restart: RestartSettings = Field(default=RestartSettings(), description="Starts after a crash.")


class TunnelSettings(Table):
    """What carries the public name to this machine."""

    provider: TunnelProvider = Field(default=TunnelProvider.CLOUDFLARED, description="The program that does it.")
    config: str = Field(default="~/.cloudflared/config.yml", description="Its configuration file; not with a token.")
    token: SecretText = Field(default=Secret(""), description="A tunnel token, in place of the file.")
    hostname: str = Field(default="", description="The public name.")
    command: Command = Field(default=("cloudflared",), description="The program, with arguments of one's own.")
    metrics: Listen = Field(default="127.0.0.1:20241", description="Where it tells about itself.")
    restart: Argv = Field(default=(), description="What restarts a cloudflared that is not ours.")

    @model_validator(mode="after")
    def _file_or_token(self) -> TunnelSettings:
        if self.token and self.config and "config" in self.model_fields_set:
            raise invalid("'config' or 'token', not both", found="both")
        return self


class PublicCheck(Table):
    """A request to the public address."""

    url: str = Field(description="The address.")
    status: Statuses = Field(default=(), description="The status, or a list of which any will do; absent: any 2xx.")
    json_subset: Any = Field(default=None, alias="json", description="What the JSON answer must contain.")
    optional: Switch = Field(default=False, description="Its failure makes the deploy partial, not failed.")


class PublicSettings(Table):
    """The public address, asked from outside."""

    checks: tuple[PublicCheck, ...] = Field(default=(), description="What is asked.")
    resolve: Annotated[dict[str, Listen], AfterValidator(_as_names)] = Field(
        default={}, description='"host:port" = "address:port", before the DNS changes.'
    )
    resolvers: tuple[Listen, ...] = Field(
        default=("1.1.1.1:53", "8.8.8.8:53"),
        description='Whom to ask, "address:port", for a name that is not found here; empty: nobody.',
    )
    requests: Annotated[int, _whole("a whole number from 20 to 1000", 20, 1000), _TEXT_OR_INTEGER] = Field(
        default=60,
        description="Requests a host gets in one look, 20 to 1000; with 60 a tenth of foreign answers shows.",
    )
    ca_file: str = Field(default="", description="Further certificate authorities, PEM.")


class ExternalInterface(Table):
    """What every external interface takes."""

    enabled: Switch = Field(default=True, description="false: skipped, with the reason.")
    reason: str = Field(default="", description="Why it is disabled.")
    strict: Switch = Field(default=False, description="An outage of theirs fails the deploy too, unless optional.")
    optional: Switch = Field(default=False, description="A refused key makes the deploy partial, not failed.")
    base_url: str = Field(
        default="",
        description="Where its key is sent: a proxy of one's own, or a test on this machine; absent: its own address.",
    )
    timeout: Duration = _time("10s", 0.01, HOUR, "The limit of one request; absent: timeouts.external.")

    @model_validator(mode="after")
    def _disabled_says_why(self) -> ExternalInterface:
        if not self.enabled and not self.reason.strip():
            raise invalid("with enabled = false a reason, which every report repeats", found="no reason")
        return self


class StripeSettings(ExternalInterface):
    """Stripe."""

    key: SecretText = Field(default=Secret(""), description="The secret key.")
    webhook_secret: SecretText = Field(default=Secret(""), description="The secret of the webhook.")


class OpenAISettings(ExternalInterface):
    """OpenAI."""

    key: SecretText = Field(default=Secret(""), description="The key.")
    organization: str = Field(default="", description="The organization.")
    project: str = Field(default="", description="The project.")


class CloudflareSettings(ExternalInterface):
    """The Cloudflare API."""

    token: SecretText = Field(default=Secret(""), description="The API token.")
    account: str = Field(default="", description="The account's id.")
    tunnel: str = Field(default="", description="The tunnel's id.")


class ExternalSettings(Table):
    """Interfaces of others that the product needs."""

    stripe: StripeSettings | None = Field(default=None, description="Stripe.")
    openai: OpenAISettings | None = Field(default=None, description="OpenAI.")
    cloudflare: CloudflareSettings | None = Field(default=None, description="The Cloudflare API.")


class TimeoutSettings(Table):
    """Limits in time, each also as FLAWLESS_TIMEOUT_<NAME>."""

    database: Duration = _time("20s", 0.01, HOUR, "The database gate in all.")
    migrate: Duration = _time("120s", 0.01, DAY, "The migration tool.")
    build: Duration = _time("10m", 0.01, DAY, "The build command of an artefact.")
    backend_ready: Duration = _time("60s", 0.01, HOUR, "A backend or worker, from its start to its last probe.")
    frontend_ready: Duration = _time("60s", 0.01, HOUR, "A frontend or proxy, from its start to its last probe.")
    recover: Duration = _time("15s", 0.01, HOUR, "Asking again after the one recovery attempt.")
    tunnel_ready: Duration = _time("30s", 0.01, HOUR, "The tunnel, from its start to an edge connection.")
    public: Duration = _time("20s", 0.01, HOUR, "The public address.")
    external: Duration = _time("10s", 0.01, HOUR, "One request to an external interface.")
    stable: Duration = _time("2s", 0.01, HOUR, "How long what became ready must stay so.")
    stop: Duration = _time("15s", 0.01, HOUR, "Time a service has to end by itself.")


class SuperviseSettings(Table):
    """The supervisor."""

    interval: Duration = _time("1s", 0.1, 60, "How often every service is asked.")


class LogSettings(Table):
    """Rotation of every log, ours and the services'."""

    max_size: Size = Field(default=10_000_000, ge=10_000, le=10**12, description="A larger file is rotated.")
    rotate: Duration = _time("1d", 60, 366 * DAY, "An older file is rotated.")
    keep: Duration = _time("7d", HOUR, 3660 * DAY, "How long rotated files are kept.")


class MetricsSettings(Table):
    """Metrics for Prometheus."""

    listen: Listen = Field(default="127.0.0.1:9180", description="Where they are served.")


class AdminSettings(Table):
    """The ops routes."""

    password: SecretText = Field(
        default=Secret(""), description="Of at least 12 characters; unset: the routes are closed."
    )


class NotifySettings(Table):
    """Who is told of incidents."""

    urls: tuple[SecretText, ...] = Field(default=(), description="Apprise addresses.")


class Settings(Table):
    """The whole manifest."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="The stack's name.")
    base_url: str = Field(default="", description="The address users open.")
    env: EnvSettings = Field(default=EnvSettings(), description="Variables.")
    paths: PathSettings = Field(default=PathSettings(), description="Folders.")
    database: DatabaseSettings | None = Field(default=None, description="The database.")
    artefacts: dict[ServiceName, ArtefactSettings] = Field(default={}, description="Generated files, by name.")
    services: dict[ServiceName, ServiceSettings] = Field(default={}, description="Processes, by name.")
    tunnel: TunnelSettings | None = Field(default=None, description="The tunnel.")
    public: PublicSettings | None = Field(default=None, description="The public address.")
    external: ExternalSettings = Field(default=ExternalSettings(), description="External interfaces.")
    timeouts: TimeoutSettings = Field(default=TimeoutSettings(), description="Limits in time.")
    supervise: SuperviseSettings = Field(default=SuperviseSettings(), description="The supervisor.")
    logs: LogSettings = Field(default=LogSettings(), description="Rotation.")
    metrics: MetricsSettings | None = Field(default=None, description="Metrics; absent: off.")
    admin: AdminSettings = Field(default=AdminSettings(), description="The ops routes.")
    notify: NotifySettings | None = Field(default=None, description="Notifications.")
