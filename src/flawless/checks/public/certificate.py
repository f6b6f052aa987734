"""Why a certificate proves nothing, and what it says: told from the codes of the TLS library, never from its texts."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flawless.core.check import Failed, Outcome, Passed
from flawless.core.reason import Reason

# The library's X509_V_ERR_* and X509_V_FLAG_*, for which the ssl module has no names.
_EXPIRED: Final = 10
_NOT_YET: Final = 9
_WRONG_NAME: Final = (62, 64)
_UNKNOWN: Final = (2, 18, 19, 20, 21)
_NO_CHECK_TIME: Final = 0x200000

_NAMES_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class AuthoritiesReadable:
    """Claims that the further certificate authorities of the manifest are there, in PEM."""

    root: Path
    file: str

    id = "public.authorities"
    claim = "the further certificate authorities can be read"
    optional = False

    async def ask(self, limit: float) -> Outcome:  # noqa: ARG002 - one small file is read
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(self.root / self.file)
        except (OSError, ssl.SSLError) as error:
            return self._failed(error)
        return Passed((self.file,))

    def _failed(self, error: OSError) -> Failed:
        is_absent = not isinstance(error, ssl.SSLError)
        said = (error.strerror or str(error)) if is_absent else "there is no certificate in PEM in it"
        return Failed(
            Reason.CONFIG_INVALID,
            f"public.ca_file cannot be used: {self.file}",
            (f"{self.root / self.file}: {said}",),
            ("name the file with the certificates in public.ca_file, or take the line out: flawless config show",),
        )


def why_refused(error: ssl.SSLCertVerificationError, host: str) -> tuple[str, str]:
    """What is wrong with the certificate of a host, and what to do about it."""
    match error.verify_code:
        case code if code == _EXPIRED:
            return f"the certificate of {host} has expired", f"renew the certificate of {host}"
        case code if code == _NOT_YET:
            return f"the certificate of {host} is not valid yet", "look at this machine's clock: date -u"
        case code if code in _WRONG_NAME:
            step = f"get a certificate that names {host}; at Cloudflare: SSL/TLS, Edge Certificates"
            return f"the certificate is not for {host}", step
        case code if code in _UNKNOWN:
            step = "if the authority is your own, name its file in [public] ca_file; else get one of a known one"
            return f"the certificate of {host} is of an authority that this machine does not know", step
    said = error.verify_message or "no reason given"
    return f"the certificate of {host} proves nothing: {said}", "look at it: openssl s_client -connect HOST:443"


async def presented(host: str, port: int, name: str, limit: float) -> Sequence[str]:
    """What the certificate that is shown for `name` says of itself, however little it proves; nothing is sent."""
    with suppress(OSError):
        async with asyncio.timeout(limit):
            return _told(await _certificate(host, port, name))
    return ()


async def _certificate(host: str, port: int, name: str) -> Mapping[str, Any]:
    """Fetched twice: the library tells what stands in a certificate only once it trusts it, so it is told to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    session = await _session(host, port, name, context)
    itself = session.getpeercert(binary_form=True)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    context.load_verify_locations(cadata=itself)
    return dict((await _session(host, port, name, context)).getpeercert() or {})


async def _session(host: str, port: int, name: str, context: ssl.SSLContext) -> ssl.SSLObject:
    _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
    writer.close()
    found = writer.get_extra_info("ssl_object")
    assert isinstance(found, ssl.SSLObject)
    return found


def _told(certificate: Mapping[str, Any]) -> Sequence[str]:
    names = [str(value) for _, value in certificate.get("subjectAltName", ())]
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return (
        f"it is for {', '.join(names[:_NAMES_SHOWN]) or 'no name'}{more}",
        f"it was issued by {_name_in(certificate.get('issuer', ()))}",
        f"it holds from {certificate.get('notBefore')} to {certificate.get('notAfter')}",
    )


def _name_in(parts: Sequence[Sequence[tuple[str, str]]]) -> str:
    found = {key: value for part in parts for key, value in part}
    return found.get("commonName") or found.get("organizationName") or "an authority without a name"
