"""What is asked of Stripe, OpenAI and Cloudflare beyond the key, and which of them a manifest declares."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from flawless.adapters.http import RemoteHttp
from flawless.checks.interfaces.cloudflare import CloudflareSeesTunnel, NameLeadsToTunnel
from flawless.checks.interfaces.declared import Declared, cloudflare_view, declared
from flawless.checks.interfaces.stripe import StripeSendsEvents
from flawless.core.check import Check, Failed, Outcome, Passed, Skipped
from flawless.core.clock import to_stamp
from flawless.core.reason import Reason
from support.clock import ManualClock
from support.far_ends import CLOUDFLARE_TOKEN, OPENAI_KEY, STRIPE_KEY, FarEnd, cloudflare, openai, stripe
from support.manifests import manifest_in

pytestmark = pytest.mark.anyio

PUBLIC: Final = 'base_url = "https://shop.example.org"\n'
WEBHOOK: Final = 'webhook_secret = "whsec_t1Zdp7dc4eC39HqLyjWDarjt0aBcDeFg"\n'
LIVE: Final = STRIPE_KEY.replace("_test_", "_live_")


@pytest.fixture
async def http() -> AsyncIterator[RemoteHttp]:
    client = RemoteHttp()
    yield client
    await client.aclose()


def table(name: str, far_end: FarEnd, more: str = "") -> str:
    noun = "token" if name == "cloudflare" else "key"
    return f'[external.{name}]\n{noun} = "{far_end.key}"\nbase_url = "{far_end.url}"\n{more}'


def of(folder: Path, text: str, http: Any, clock: ManualClock | None = None) -> Declared:
    return declared(manifest_in(folder, text), http, clock or ManualClock())


def checks(found: Declared) -> dict[str, Check]:
    return {check.id: check for one in found.asked for check in (one.accepts, *one.further)}


async def ask(folder: Path, text: str, http: Any, id_: str, clock: ManualClock | None = None) -> Outcome:
    return await checks(of(folder, text, http, clock))[id_].ask(5)


# --- Stripe ---


async def test_a_restricted_key_is_asked_for_the_balance(tmp_path: Path, http: RemoteHttp) -> None:
    """It may not see the account, and is good all the same; the mode is what Stripe says."""
    with stripe(is_restricted=True) as far_end:
        outcome = await ask(tmp_path, table("stripe", far_end), http, "external.stripe")
        assert far_end.paths == ["/v1/account", "/v1/balance"]
    assert isinstance(outcome, Passed)
    assert "test mode" in outcome.evidence


@pytest.mark.parametrize(("base_url", "live", "is_wrong"), [("https://shop.example.org", False, True),
    ("https://shop.example.org", True, False), ("https://staging.example.org", False, False),
    ("http://127.0.0.1:8080", True, True), ("http://127.0.0.1:8080", False, False)])  # fmt: skip
async def test_the_mode_that_stripe_tells_must_fit_the_address(
    tmp_path: Path, http: RemoteHttp, base_url: str, *, live: bool, is_wrong: bool
) -> None:
    """A key of any form, behind a proxy: only the answer shows whose mode it is."""
    with stripe("proxy-key-4711-9932", is_restricted=True, live=live) as far_end:
        text = f'base_url = "{base_url}"\n{table("stripe", far_end)}'
        outcome = await ask(tmp_path, text, http, "external.stripe")
    assert isinstance(outcome, Failed) is is_wrong, outcome
    if isinstance(outcome, Failed):
        assert outcome.reason is Reason.API_KEY_MODE
        assert ("live" if live else "test") in outcome.cause


async def test_what_is_no_account_is_not_stripe(tmp_path: Path, http: RemoteHttp) -> None:
    """200 and JSON of somebody else."""
    with openai(STRIPE_KEY) as far_end:
        outcome = await ask(tmp_path, table("stripe", far_end), http, "external.stripe")
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.API_UNEXPECTED


WEBHOOKS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "ours": ({"webhooks": ["https://a.example.org/x", "https://SHOP.example.org:443/hook"]}, "PASS"),
    "none": ({}, "WARN"),
    "elsewhere": ({"webhooks": ["https://shop.example.org.evil.net/", "http://shop.example.org/"]}, "WARN"),
    "disabled": ({"webhooks": ["https://shop.example.org/hook"], "disabled": True}, "WARN"),
    "hidden": ({"sees_webhooks": False}, "SKIP"),
    "more than a page": ({"has_more": True, "webhooks": ["https://a.example.org/"]}, "SKIP"),
}


@pytest.mark.parametrize("row", list(WEBHOOKS))
async def test_an_endpoint_leads_here_or_is_missed(tmp_path: Path, http: RemoteHttp, row: str) -> None:
    """API_WEBHOOK_MISSING is a warning; what the key may not see, or stands on another page, is said and no warning."""
    state, status = WEBHOOKS[row]
    with stripe(LIVE, live=True, **state) as far_end:
        outcome = await ask(tmp_path, PUBLIC + table("stripe", far_end, WEBHOOK), http, "external.webhook")
        [request] = far_end.requests
    assert (request.path, request.query) == ("/v1/webhook_endpoints", {"limit": "100"})
    match outcome:
        case Passed(concern=None):
            assert status == "PASS"
        case Passed(concern=concern):
            assert status == "WARN"
            assert concern is not None
            assert concern.reason is Reason.API_WEBHOOK_MISSING
            assert "flawless deploy" in concern.next_step
            assert "https://shop.example.org" in outcome.evidence[0]
        case Skipped(declared=is_declared):
            assert status == "SKIP"
            assert not is_declared
        case _:
            pytest.fail(str(outcome))


async def test_where_no_event_is_expected_nobody_asks_for_endpoints(tmp_path: Path, http: RemoteHttp) -> None:
    """No webhook secret, or an address that Stripe could not reach."""
    with stripe() as far_end:
        for text in (PUBLIC + table("stripe", far_end), 'base_url = "http://localhost:1"\n' + table("stripe", far_end)):
            assert list(checks(of(tmp_path, text, http))) == ["external.stripe"]
        text = 'base_url = "http://localhost:1"\n[tunnel]\nhostname = "shop.example.org"\n'
        [check] = of(tmp_path, text + table("stripe", far_end, WEBHOOK), http).asked[0].further
        switched_off = text + 'provider = "none"\n' + table("stripe", far_end, WEBHOOK)
        assert list(checks(of(tmp_path, switched_off, http))) == ["external.stripe"]
    assert isinstance(check, StripeSendsEvents)
    assert check.address == "https://shop.example.org"


# --- OpenAI ---


async def test_organization_and_project_are_sent_when_given(tmp_path: Path, http: RemoteHttp) -> None:
    """And only then; what OpenAI says of a wrong one is told."""
    with openai(organization="org-7", project="proj-9") as far_end:
        given = table("openai", far_end, 'organization = "org-7"\nproject = "proj-9"\n')
        outcome = await ask(tmp_path, given, http, "external.openai")
        assert isinstance(outcome, Passed)
        assert "2 models, for this organization and project" in outcome.evidence
        await ask(tmp_path, table("openai", far_end), http, "external.openai")
        wrong = await ask(tmp_path, table("openai", far_end, 'project = "proj-1"\n'), http, "external.openai")
        first, second, _ = (request.headers for request in far_end.requests)
    assert (first["openai-organization"], first["openai-project"]) == ("org-7", "proj-9")
    assert not {name for name in second if name.startswith("openai-")}
    assert isinstance(wrong, Failed)
    assert "it says mismatched_organization" in "\n".join(wrong.evidence)


# --- Cloudflare ---


async def test_a_token_of_an_account_is_verified_there(tmp_path: Path, http: RemoteHttp) -> None:
    """The user's address does not know it; with an account in the manifest the account's is asked."""
    with cloudflare(is_of_account=True) as far_end:
        more = f'account = "{far_end.account}"\n'
        outcome = await ask(tmp_path, table("cloudflare", far_end, more), http, "external.cloudflare")
        assert isinstance(outcome, Passed), outcome
        assert far_end.paths[-1] == f"/client/v4/accounts/{far_end.account}/tokens/verify"
        without = await ask(tmp_path, table("cloudflare", far_end), http, "external.cloudflare")
    assert isinstance(without, Failed)
    assert without.reason is Reason.API_UNAUTHORIZED


@pytest.mark.parametrize("status", ["disabled", "expired"])
async def test_a_token_that_is_not_active_is_refused(tmp_path: Path, http: RemoteHttp, status: str) -> None:
    """It answers 200 and success, and means no."""
    with cloudflare(status=status) as far_end:
        outcome = await ask(tmp_path, table("cloudflare", far_end), http, "external.cloudflare")
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.API_UNAUTHORIZED
    assert f"the token is {status}" in outcome.evidence[0]


async def test_what_is_no_token_at_all_is_refused_too(tmp_path: Path, http: RemoteHttp) -> None:
    """Cloudflare answers 400 with 6003 to a header that it cannot read."""
    with cloudflare() as far_end:
        far_end.fail_with(400)
        outcome = await ask(tmp_path, table("cloudflare", far_end), http, "external.cloudflare")
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.API_UNAUTHORIZED
    assert "error 6003" in "\n".join(outcome.evidence)


@pytest.mark.parametrize(("days", "warns"), [(13.9, True), (14.1, False), (0.5, True)])
async def test_a_token_that_ends_within_14_days_is_a_warning(
    tmp_path: Path, http: RemoteHttp, days: float, *, warns: bool
) -> None:
    """It works today: the day is named, with where the token stands."""
    clock = ManualClock()
    with cloudflare(expires_on=to_stamp(clock.now() + timedelta(days=days))) as far_end:
        outcome = await ask(tmp_path, table("cloudflare", far_end), http, "external.cloudflare", clock)
    assert isinstance(outcome, Passed)
    assert (outcome.concern is not None) is warns
    assert f"in {int(days)} days" in outcome.evidence[1]
    if outcome.concern is not None:
        assert outcome.concern.reason is Reason.API_TOKEN_EXPIRING
        assert "external.cloudflare.token (flawless.toml:" in outcome.concern.next_step


def tunnel_text(far_end: Any, hostname: str = "app.example.org") -> str:
    more = f'account = "{far_end.account}"\ntunnel = "{far_end.tunnel}"\n'
    return f'[tunnel]\nhostname = "{hostname}"\n' + table("cloudflare", far_end, more)


@pytest.mark.parametrize(
    ("status", "wanted"),
    [("healthy", None), ("degraded", "WARN"), ("down", "FAIL"), ("inactive", "FAIL"), ("purple", "UNEXPECTED")],
)
async def test_the_tunnels_status_as_the_api_sees_it(
    tmp_path: Path, http: RemoteHttp, status: str, wanted: str | None
) -> None:
    """TUNNEL_NOT_CONNECTED where it has no connection; a warning where some are lost."""
    with cloudflare(tunnel_status=status) as far_end:
        outcome = await ask(tmp_path, tunnel_text(far_end), http, "external.tunnel")
    match outcome:
        case Passed(concern=None):
            assert wanted is None
        case Passed():
            assert wanted == "WARN"
        case Failed(reason=reason):
            assert wanted == {Reason.TUNNEL_NOT_CONNECTED: "FAIL", Reason.API_UNEXPECTED: "UNEXPECTED"}[reason]
            assert far_end.tunnel in "\n".join(outcome.evidence)
        case _:
            pytest.fail(str(outcome))


async def test_a_tunnel_that_the_account_does_not_have(tmp_path: Path, http: RemoteHttp) -> None:
    """404 is an answer: no such tunnel."""
    with cloudflare() as far_end:
        text = tunnel_text(far_end).replace(far_end.tunnel, "f70ff985-0000-4643-bbbc-4a0ed4fc8415")
        outcome = await ask(tmp_path, text, http, "external.tunnel")
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.TUNNEL_NOT_CONNECTED
    assert "no such tunnel" in outcome.evidence[0]


def record(kind: str, content: str, name: str = "app.example.org", *, proxied: bool = True) -> dict[str, Any]:
    return {"type": kind, "name": name, "content": content, "proxied": proxied}


TUNNEL: Final = "f70ff985-a4ef-4643-bbbc-4a0ed4fc8415.cfargotunnel.com"
RECORDS: Final[dict[str, tuple[list[dict[str, Any]] | None, str]]] = {
    "right": (None, ""),
    "written otherwise": ([record("CNAME", TUNNEL.upper() + ".")], ""),
    "a wildcard": ([record("CNAME", TUNNEL, "*.example.org")], ""),
    "not proxied": ([record("CNAME", TUNNEL, proxied=False)], "not proxied"),
    "another tunnel": ([record("CNAME", "0000.cfargotunnel.com")], "CNAME 0000.cfargotunnel.com"),
    "an address": ([record("A", "192.0.2.7")], "A 192.0.2.7, proxied"),
    "none": ([], "no record of its own"),
}


@pytest.mark.parametrize("row", list(RECORDS))
async def test_the_record_of_the_name_leads_to_the_tunnel(tmp_path: Path, http: RemoteHttp, row: str) -> None:
    """A proxied CNAME to it, of its own or a wildcard; else PUBLIC_NOT_ON_TUNNEL with what is there."""
    records, said = RECORDS[row]
    with cloudflare(records=records) as far_end:
        outcome = await ask(tmp_path, tunnel_text(far_end), http, "external.dns")
    assert isinstance(outcome, Failed) is bool(said), outcome
    if isinstance(outcome, Failed):
        assert outcome.reason is Reason.PUBLIC_NOT_ON_TUNNEL
        assert said in "\n".join(outcome.evidence)
        assert "cloudflared tunnel route dns" in outcome.next_steps[0]


@pytest.mark.parametrize(("hidden", "id_"), [("tunnels", "external.tunnel"), ("zones", "external.dns"), ("records", "external.dns")])  # fmt: skip  # noqa: E501 - a table
async def test_what_the_token_may_not_see_is_said_and_nothing_more(
    tmp_path: Path, http: RemoteHttp, hidden: str, id_: str
) -> None:
    """No failure, no warning, and no pass."""
    with cloudflare(hidden={hidden}) as far_end:
        outcome = await ask(tmp_path, tunnel_text(far_end), http, id_)
    assert isinstance(outcome, Skipped)
    assert not outcome.declared


async def test_an_outage_within_is_told_as_one(tmp_path: Path, http: RemoteHttp) -> None:
    """The token was accepted, and then the API fails."""
    with cloudflare() as far_end:
        far_end.fail_with(503, path="/client/v4/zones")
        outcome = await ask(tmp_path, tunnel_text(far_end), http, "external.dns")
    assert isinstance(outcome, Failed)
    assert outcome.reason is Reason.API_UNAVAILABLE


async def test_half_of_what_is_needed_is_said(tmp_path: Path, http: RemoteHttp) -> None:
    """An account and no tunnel, or no name: SKIP with the key that is missing; neither, and nobody asks."""
    with cloudflare() as far_end:
        text = table("cloudflare", far_end, f'account = "{far_end.account}"\n')
        found = checks(of(tmp_path, text, http))
        for id_, missing in (("external.tunnel", "external.cloudflare.tunnel"), ("external.dns", "tunnel")):
            outcome = await found[id_].ask(1)
            assert isinstance(outcome, Skipped)
            assert missing in outcome.because
        assert list(checks(of(tmp_path, table("cloudflare", far_end), http))) == ["external.cloudflare"]
        assert far_end.connections == 0


async def test_the_apis_view_can_be_had_alone(tmp_path: Path, http: RemoteHttp) -> None:
    """For the tunnel's verdict: the same two questions; none without a token."""
    with cloudflare() as far_end:
        text = tunnel_text(far_end)
        view = cloudflare_view(manifest_in(tmp_path, text), http, ManualClock())
        assert [type(one) for one in view] == [CloudflareSeesTunnel, NameLeadsToTunnel]
        assert all([isinstance(await one.ask(5), Passed) for one in view])
        blank = text.replace(far_end.key, "")
        assert cloudflare_view(manifest_in(tmp_path, blank), http, ManualClock()) == ()
    assert cloudflare_view(manifest_in(tmp_path, ""), http, ManualClock()) == ()


# --- which are declared ---

BLANK: Final = '[external.cloudflare]\ntoken = "${TOKEN:-}"\n'
UNASKED: Final[dict[str, tuple[str, str, str]]] = {
    "disabled": (
        '[external.stripe]\nkey = "x"\nenabled = false\nreason = "later"\n', "SKIP", "disabled: later"
    ),
    "absent": (BLANK + "optional = true\n", "SKIP", "no token is set: external.cloudflare.token (flawless.toml:3)"),
    "wanted": (BLANK.replace(":-", "") + "optional = true\n", "PARTIAL", "no token is set"),
    "required": (BLANK, "ENV_BLANK", "Cloudflare is declared, and no token of it is set"),
}  # fmt: skip


@pytest.mark.parametrize("row", list(UNASKED))
def test_why_one_is_not_asked(tmp_path: Path, row: str) -> None:
    """Disabled by policy, or without a key: an outcome of its own, and no question."""
    text, status, said = UNASKED[row]
    found = declared(manifest_in(tmp_path, text), RemoteHttp(), ManualClock())
    assert found.asked == ()
    [finding] = found.settled
    assert finding.failure is not None if status == "ENV_BLANK" else finding.status == "SKIP"
    assert finding.makes_partial is (status == "PARTIAL")
    assert said in "\n".join(finding.to_json()["evidence"])


def test_what_is_not_declared_is_not_there(tmp_path: Path) -> None:
    """No table, no check."""
    assert declared(manifest_in(tmp_path, ""), RemoteHttp(), ManualClock()) == Declared((), ())


async def test_the_place_of_the_key_is_named(tmp_path: Path, http: RemoteHttp) -> None:
    """The variable and the file with its line, which is what has to be mended."""
    with stripe() as far_end:
        far_end.fail_with(401)
        text = table("stripe", far_end).replace(STRIPE_KEY, "${STRIPE_SECRET_KEY}")
        manifest = manifest_in(tmp_path, text, env=f"\nSTRIPE_SECRET_KEY={STRIPE_KEY}\n")
        outcome = await checks(declared(manifest, http, ManualClock()))["external.stripe"].ask(5)
    assert isinstance(outcome, Failed)
    assert "STRIPE_SECRET_KEY (.env:2)" in outcome.next_steps[0]


def test_the_keys_of_the_far_ends_have_the_form_of_real_ones() -> None:
    """Whole deploys with them pass the preflight checks."""
    assert (STRIPE_KEY[:8], OPENAI_KEY[:3], len(CLOUDFLARE_TOKEN) > 20) == ("sk_test_", "sk-", True)
