"""Certificate authorities of the manifest, and what is said of a certificate that proves nothing."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from flawless.checks.public.certificate import AuthoritiesReadable, presented, why_refused
from flawless.core.check import Failed, Passed
from flawless.core.reason import Reason
from support.keepers import free_port

pytestmark = pytest.mark.anyio


async def test_authorities_that_can_be_read(tmp_path: Path) -> None:
    """PEM, beside the manifest."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    assert await AuthoritiesReadable(tmp_path, "ca.pem").ask(1.0) == Passed(("ca.pem",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory"),
        (b"", "there is no certificate in PEM in it"),
        (b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n", "there is no certificate in PEM in it"),
    ],
    ids=["absent", "empty", "broken"],
)
async def test_authorities_that_cannot(tmp_path: Path, content: bytes | None, said: str) -> None:
    """Before anything is changed, with the file and the reason."""
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    outcome = await AuthoritiesReadable(tmp_path, "ca.pem").ask(1.0)
    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.evidence) == (Reason.CONFIG_INVALID, (f"{tmp_path / 'ca.pem'}: {said}",))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (9, "the certificate of a.example is not valid yet"),
        (10, "the certificate of a.example has expired"),
        (62, "the certificate is not for a.example"),
        (64, "the certificate is not for a.example"),
        (18, "the certificate of a.example is of an authority that this machine does not know"),
        (19, "the certificate of a.example is of an authority that this machine does not know"),
        (20, "the certificate of a.example is of an authority that this machine does not know"),
        (23, "the certificate of a.example proves nothing: certificate revoked"),
    ],
)
def test_each_code_of_the_library_is_told_apart(code: int, said: str) -> None:
    """By its number; its text is only repeated where the number is not known."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "certificate revoked"
    cause, step = why_refused(error, "a.example")
    assert cause == said
    assert step


async def test_a_certificate_that_cannot_be_fetched_says_nothing() -> None:
    """Nobody there: the facts are missing, and nothing else goes wrong."""
    assert await presented("127.0.0.1", free_port(), "a.example", 2.0) == ()
