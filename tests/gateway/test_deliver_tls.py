"""Delivery against real servers that do one thing wrong: what went over the wire, and what was said of it."""

import time
from pathlib import Path
from typing import Any, get_args

import pytest

from letterlock_api.destinationcontrol import LastTLS
from letterlock_api.snapshot import Destination, ResolvedTLSMode
from tests.harness.certificates import Authority
from tests.harness.deliveries import LETTER, Delivering, delivering, route, until
from tests.harness.faulty_smtp import Fault, FaultySMTP
from tests.harness.mounts import destination

MODES: tuple[ResolvedTLSMode, ...] = get_args(ResolvedTLSMode)
REQUIRED: tuple[ResolvedTLSMode, ...] = tuple(mode for mode in MODES if mode.startswith("Required"))
OPPORTUNISTIC: tuple[ResolvedTLSMode, ...] = ("Preferred", "PreferredVerify")
VERIFYING: tuple[ResolvedTLSMode, ...] = tuple(mode for mode in MODES if "Verify" in mode)
WORDS: dict[Fault, str] = {
    "EHLO unknown": "TLSNotOffered",
    "STARTTLS not offered": "TLSNotOffered",
    "STARTTLS 454": "TLSRefused",
    "STARTTLS 501": "TLSRefused",
    "closes on STARTTLS": "TLSRefused",
    "STARTTLS unanswered": "TLSRefused",
    "STARTTLS garbage": "TLSRefused",
    "closes after 220": "HandshakeFailed",
    "silent after 220": "HandshakeFailed",
    "clear text after 220": "HandshakeFailed",
    "injects after 220": "HandshakeFailed",
    "closes after handshake": "HandshakeFailed",
}
BEFORE_220: tuple[Fault, ...] = (
    "EHLO unknown",
    "STARTTLS not offered",
    "STARTTLS 454",
    "STARTTLS 501",
    "closes on STARTTLS",
    "STARTTLS unanswered",
    "STARTTLS garbage",
)
AFTER_220: tuple[Fault, ...] = (
    "closes after 220",
    "silent after 220",
    "clear text after 220",
    "injects after 220",
    "closes after handshake",
)
UNREACHED: tuple[Fault, ...] = (
    "greeting 421",
    "greeting 554",
    "closes at once",
    "no greeting",
    "EHLO unanswered",
)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def mailbox(mode: ResolvedTLSMode, *servers: FaultySMTP, **changes: Any) -> Destination:
    routes = [route(server.port, priority=n) for n, server in enumerate(servers)]
    fields: dict[str, Any] = {"resource": "mailbox", "tls_mode": mode, "routes": routes}
    return destination("mailbox.example", **(fields | changes))


async def failing(made: Delivering) -> LastTLS:
    """What is reported once the domain fails."""
    state = await until(
        lambda: (state := made.state("mailbox")) and state.failing and state, "a failure that is reported"
    )
    assert [one.reason for one in state.failing] == [state.last_tls.result]
    await until(lambda: made.logged("Delayed: "), "the deferral in the log")
    return state.last_tls


async def delivered(made: Delivering, server: FaultySMTP) -> LastTLS:
    await until(lambda: made.spool.queue_length() == 0, "an empty queue")
    assert [one.data for one in server.delivered] == [LETTER]
    state = await until(lambda: (state := made.state("mailbox")) and not state.failing and state, "a report")
    return state.last_tls


@pytest.mark.parametrize("mode", REQUIRED)
@pytest.mark.parametrize("fault", [*BEFORE_220, *AFTER_220])
async def test_required_never_says_mail_in_clear_text(
    tmp_path: Path, authority: Authority, mode: ResolvedTLSMode, fault: Fault
) -> None:
    certificate = authority.issue("mailbox.example")
    async with FaultySMTP(certificate, fault=fault) as server, delivering(tmp_path) as made:
        made.trusted = [authority.pem]
        made.apply(mailbox(mode, server))
        await made.send()
        last = await failing(made)
        assert last.result == WORDS[fault]
        assert made.logged("TLS was required but could not be successfully negotiated")
        assert made.spool.queue_length() == 1
        assert server.delivered == []
        assert not server.said(b"MAIL")
        assert b"secret" not in server.clear


@pytest.mark.parametrize("mode", OPPORTUNISTIC)
@pytest.mark.parametrize("fault", BEFORE_220)
async def test_preferred_goes_on_in_clear_text_when_tls_fails_before_the_220(
    tmp_path: Path, authority: Authority, mode: ResolvedTLSMode, fault: Fault
) -> None:
    async with FaultySMTP(authority.issue("x.example"), fault=fault) as server, delivering(tmp_path) as made:
        made.apply(mailbox(mode, server))
        await made.send()
        last = await delivered(made, server)
        assert (last.result, last.protocol, last.verified) == ("Delivered", None, False)
        assert last.reason
        assert made.logged("TLS failed: ")


@pytest.mark.parametrize("mode", OPPORTUNISTIC)
@pytest.mark.parametrize("fault", AFTER_220)
async def test_after_the_220_preferred_never_goes_back_to_clear_text(
    tmp_path: Path, authority: Authority, mode: ResolvedTLSMode, fault: Fault
) -> None:
    async with FaultySMTP(authority.issue("x.example"), fault=fault) as server, delivering(tmp_path) as made:
        made.apply(mailbox(mode, server))
        await made.send()
        last = await failing(made)
        assert last.result == "HandshakeFailed"
        assert all(session.asked_220 for session in server.sessions)
        assert not server.said(b"MAIL")
        assert b"secret" not in server.clear


async def test_after_the_220_preferred_takes_the_next_host(tmp_path: Path, authority: Authority) -> None:
    pem = authority.issue("x.example")
    async with (
        FaultySMTP(pem, fault="closes after 220") as broken,
        FaultySMTP(pem) as good,
        delivering(tmp_path) as made,
    ):
        made.apply(mailbox("Preferred", broken, good))
        await made.send()
        last = await delivered(made, good)
        assert last.protocol == "TLSv1.3"
        assert not broken.said(b"MAIL")


async def test_no_never_asks_for_tls(tmp_path: Path, authority: Authority) -> None:
    async with FaultySMTP(authority.issue("x.example")) as server, delivering(tmp_path) as made:
        made.apply(mailbox("No", server))
        await made.send()
        last = await delivered(made, server)
        assert last.protocol is None
        assert not server.said(b"STARTTLS")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", UNREACHED)
async def test_hosts_that_do_not_let_us_in_are_given_up_and_the_mail_waits(
    tmp_path: Path, authority: Authority, mode: ResolvedTLSMode, fault: Fault
) -> None:
    certificate = authority.issue("mailbox.example")
    async with FaultySMTP(certificate, fault=fault) as server, delivering(tmp_path) as made:
        made.apply(mailbox(mode, server))
        await made.send()
        last = await failing(made)
        assert last.result == "Unreachable"
        assert not server.said(b"MAIL")


@pytest.mark.parametrize("mode", MODES)
async def test_every_mode_delivers_to_a_host_that_can_be_verified(
    tmp_path: Path, authority: Authority, mode: ResolvedTLSMode
) -> None:
    async with FaultySMTP(authority.issue("mailbox.example")) as server, delivering(tmp_path) as made:
        made.trusted = [authority.pem]
        made.apply(mailbox(mode, server))
        await made.send()
        last = await delivered(made, server)
        assert last.verified == (mode in VERIFYING)
        assert server.said(b"MAIL") == (mode == "No")
        if mode in VERIFYING:
            assert (last.matched_name, last.name_source) == ("mailbox.example", "Recipient")
            assert made.logged("verified name mailbox.example (Recipient)")


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "No"])
@pytest.mark.parametrize("problem", ["NotTrusted", "NameMismatch", "Expired"])
async def test_what_cannot_be_verified_stops_only_those_who_insist(
    tmp_path: Path, authority: Authority, mode: ResolvedTLSMode, problem: str
) -> None:
    certificate = authority.issue("other.example" if problem == "NameMismatch" else "mailbox.example")
    # In the year 3871 every certificate has expired.
    clock = (lambda: 60_000_000_000.0) if problem == "Expired" else time.time
    async with FaultySMTP(certificate) as server, delivering(tmp_path, clock=clock) as made:
        made.trusted = [] if problem == "NotTrusted" else [authority.pem]
        made.apply(mailbox(mode, server))
        await made.send()
        if mode.startswith("RequiredVerify"):
            last = await failing(made)
            assert last.result == problem
            assert server.delivered == []
            if problem == "NameMismatch":
                assert "asked for mailbox.example" in last.reason
                assert "other.example" in last.reason
        else:
            last = await delivered(made, server)
            assert (last.protocol, last.verified) == ("TLSv1.3", False)
            assert server.delivered[0].tls
            if mode == "PreferredVerify":
                assert made.logged("not verified: ")
        assert not server.said(b"MAIL")


async def test_hosted_domains_accept_the_routes_host_and_send_its_name_as_sni(
    tmp_path: Path, authority: Authority
) -> None:
    async with FaultySMTP(authority.issue("localhost")) as server, delivering(tmp_path) as made:
        made.trusted = [authority.pem]
        routes = [route(server.port, host="localhost")]
        made.settings = made.settings.model_copy(update={"address_family": "IPv4"})
        made.apply(mailbox("RequiredVerifyHostedDomains", server, routes=routes))
        await made.send()
        last = await delivered(made, server)
        assert (last.matched_name, last.name_source) == ("localhost", "Route")
        assert server.sessions[0].sni == "localhost"


async def test_required_verify_does_not_accept_the_routes_host(tmp_path: Path, authority: Authority) -> None:
    async with FaultySMTP(authority.issue("localhost")) as server, delivering(tmp_path) as made:
        made.trusted = [authority.pem]
        made.settings = made.settings.model_copy(update={"address_family": "IPv4"})
        routes = [route(server.port, host="localhost")]
        made.apply(mailbox("RequiredVerify", server, routes=routes))
        await made.send()
        assert (await failing(made)).result == "NameMismatch"


async def test_an_address_is_never_sent_as_sni(tmp_path: Path, authority: Authority) -> None:
    async with FaultySMTP(authority.issue("mailbox.example")) as server, delivering(tmp_path) as made:
        made.apply(mailbox("Preferred", server))
        await made.send()
        await delivered(made, server)
        assert server.sessions[0].sni is None


async def test_explicit_names_replace_all_others(tmp_path: Path, authority: Authority) -> None:
    async with FaultySMTP(authority.issue("mailbox.example")) as server, delivering(tmp_path) as made:
        made.trusted = [authority.pem]
        made.apply(mailbox("RequiredVerify", server, names=["mx.provider.example"]))
        await made.send()
        assert (await failing(made)).result == "NameMismatch"
        server.use_certificate(authority.issue("mx.provider.example"))
        await made.spool.hasten()
        last = await delivered(made, server)
        assert (last.matched_name, last.name_source) == ("mx.provider.example", "Explicit")


async def test_tls_from_the_first_byte(tmp_path: Path, authority: Authority) -> None:
    certificate = authority.issue("mailbox.example")
    async with FaultySMTP(certificate, implicit_tls=True) as server, delivering(tmp_path) as made:
        made.trusted = [authority.pem]
        made.apply(mailbox("RequiredVerify", server, routes=[route(server.port, implicit_tls=True)]))
        await made.send()
        last = await delivered(made, server)
        assert last.verified
        assert server.clear == b""


async def test_tls_from_the_first_byte_fails_where_the_host_speaks_clear_text(
    tmp_path: Path, authority: Authority
) -> None:
    async with FaultySMTP(authority.issue("mailbox.example")) as server, delivering(tmp_path) as made:
        made.apply(mailbox("Preferred", server, routes=[route(server.port, implicit_tls=True)]))
        await made.send()
        assert (await failing(made)).result == "HandshakeFailed"
        assert not server.said(b"MAIL")


async def test_our_certificate_is_presented_when_it_is_asked_for(
    tmp_path: Path, authority: Authority
) -> None:
    ours = authority.issue("mx.letterlock.example")
    server_pem = authority.issue("mailbox.example")
    async with FaultySMTP(server_pem, client_ca=authority.pem) as server, delivering(tmp_path) as made:
        certificate = made.files.certificate(ours, "outgoing")
        made.settings = made.settings.model_copy(update={"certificate": certificate})
        made.apply(mailbox("Required", server))
        await made.send()
        await delivered(made, server)
        assert server.sessions[0].client_certificate


async def test_a_bounce_says_that_tls_was_the_reason_and_carries_the_header_only(
    tmp_path: Path, authority: Authority
) -> None:
    pem = authority.issue("other.example")
    async with (
        FaultySMTP(pem) as server,
        FaultySMTP() as senders,
        delivering(tmp_path) as made,
    ):
        made.trusted = [authority.pem]
        retry = made.settings.retry.model_copy(update={"attempts": 1})
        made.settings = made.settings.model_copy(update={"retry": retry})
        back = destination("sender.example", routes=[route(senders.port)], tls_mode="No", resource="back")
        made.apply(mailbox("RequiredVerify", server), back)
        await made.send()
        await until(lambda: made.spool.queue_length() == 0 and senders.delivered, "the bounce to arrive")
        (bounce,) = senders.delivered
        assert bounce.mail.startswith("MAIL FROM:<>")
        assert b"Status: 5.7.5" in bounce.data
        assert b"TLS was required but could not be negotiated" in bounce.data
        assert b"secret subject" in bounce.data
        assert b"secret text" not in bounce.data
        assert server.delivered == []
