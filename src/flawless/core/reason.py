"""The reason codes: FAMILY_CAUSE, stable. What each means stands in `reasons.toml`, a page a code.

`permanent` is data: a gate leaves at once on a permanent reason, because waiting cannot help.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """Every code that a check, a gate or an error can answer with."""

    permanent: bool

    def __new__(cls, code: str, permanent: bool = True) -> Self:  # noqa: FBT001, FBT002 - an enum's members are positional
        member = str.__new__(cls, code)
        member._value_ = code
        member.permanent = permanent
        return member

    # the environment
    ENV_MISSING = "ENV_MISSING"
    ENV_BLANK = "ENV_BLANK"
    ENV_WEAK = "ENV_WEAK"
    ENV_PLACEHOLDER = "ENV_PLACEHOLDER"
    ENV_MALFORMED = "ENV_MALFORMED"
    ENV_OVERRIDDEN = "ENV_OVERRIDDEN"
    API_KEY_MODE = "API_KEY_MODE"
    # the manifest and the command line
    CONFIG_INVALID = "CONFIG_INVALID"
    CONFIG_USAGE = "CONFIG_USAGE"
    # ports, files, tools
    PORT_HELD_FOREIGN = "PORT_HELD_FOREIGN"
    PORT_STOLEN = "PORT_STOLEN"
    DISK_NOT_WRITABLE = "DISK_NOT_WRITABLE"
    DISK_FULL = "DISK_FULL"
    ARTEFACT_MISSING = "ARTEFACT_MISSING"
    ARTEFACT_STALE = "ARTEFACT_STALE"
    ARTEFACT_BUILD_FAILED = "ARTEFACT_BUILD_FAILED"
    TOOL_MISSING = "TOOL_MISSING"
    # the database
    DB_REFUSED = "DB_REFUSED", False
    DB_DNS = "DB_DNS", False
    DB_TIMEOUT = "DB_TIMEOUT", False
    DB_AUTH = "DB_AUTH"
    DB_NO_DATABASE = "DB_NO_DATABASE"
    DB_TLS = "DB_TLS"
    DB_TOO_MANY_CONNECTIONS = "DB_TOO_MANY_CONNECTIONS", False
    DB_STARTING = "DB_STARTING", False
    DB_READ_ONLY = "DB_READ_ONLY"
    DB_LOST = "DB_LOST", False
    DB_SLOW = "DB_SLOW", False
    DB_PROTOCOL = "DB_PROTOCOL"
    DB_PERMISSION = "DB_PERMISSION"
    DB_ERROR = "DB_ERROR", False
    DB_TABLE_MISSING = "DB_TABLE_MISSING"
    DB_EMBEDDED_FAILED = "DB_EMBEDDED_FAILED"
    DB_EMBEDDED_VERSION = "DB_EMBEDDED_VERSION"
    # migrations
    MIGRATE_FAILED = "MIGRATE_FAILED"
    MIGRATE_DIRTY = "MIGRATE_DIRTY"
    MIGRATE_DRIFT = "MIGRATE_DRIFT"
    MIGRATE_LOCKED = "MIGRATE_LOCKED", False
    MIGRATE_TIMEOUT = "MIGRATE_TIMEOUT"
    MIGRATE_REFUSED = "MIGRATE_REFUSED"
    # services
    SERVICE_EXITED = "SERVICE_EXITED"
    SERVICE_NOT_LISTENING = "SERVICE_NOT_LISTENING", False
    SERVICE_HUNG = "SERVICE_HUNG", False
    SERVICE_WRONG_IDENTITY = "SERVICE_WRONG_IDENTITY"
    SERVICE_UNHEALTHY = "SERVICE_UNHEALTHY", False
    SERVICE_FLAPPING = "SERVICE_FLAPPING"
    SERVICE_GAVE_UP = "SERVICE_GAVE_UP"
    SERVICE_OOM = "SERVICE_OOM"
    SERVICE_OWNED_ELSEWHERE = "SERVICE_OWNED_ELSEWHERE"
    SERVICE_KEEPER_FAILED = "SERVICE_KEEPER_FAILED"
    # the machine, the lock and the tool itself
    HOST_LIMITS = "HOST_LIMITS", False
    LOCK_HELD = "LOCK_HELD"
    DEPLOY_KILLED = "DEPLOY_KILLED"
    DEPLOY_INTERRUPTED = "DEPLOY_INTERRUPTED"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    DEPLOY_CHECK_HUNG = "DEPLOY_CHECK_HUNG", False
    DEPLOY_INTERNAL = "DEPLOY_INTERNAL"
    DEPLOY_ROLLBACK_FAILED = "DEPLOY_ROLLBACK_FAILED"
