"""Why TLS could not be used, and what follows, with a real Postfix that is wrong in one way at each of its addresses.

Every reason of the log (D11) with the names on both sides; the next host; the deferral; and when time is up the bounce
with the headers only, as it lies in a real mailbox and as mail programs read it (D2, D3, D4, D5, D8).
"""

import asyncio
import email
import email.policy
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from letterlock_api.snapshot import Destination, ResolvedTLSMode, RetrySchedule
from letterlock_gateway.deliver.terms import Timeouts
from letterlock_gateway.manage import checking
from tests.harness import chains, programs
from tests.harness.certificates import Authority
from tests.harness.chains import Signer
from tests.harness.deliveries import Delivering, delivering, route, until
from tests.harness.mounts import destination
from tests.harness.postfix import Postfix

NETWORK: Final = "127.85.0"
DOMAIN: Final = "mail.partner.example"


@dataclass(frozen=True)
class Wrong:
    """One way in which TLS with this Postfix comes to nothing, and how the log tells."""

    id: str
    reason: str
    """The word in status, condition and metric."""
    says: str
    """What the log says, `{domain}` being the recipient domain."""
    status: str
    pem: Callable[[Signer], bytes] | None = None
    settings: dict[str, str] = field(default_factory=dict[str, str])
    """Of Postfix at this address; `smtpd_command_filter` names a command that it does not know there."""
    clear: bool = False
    """Whether Preferred and PreferredVerify go on in clear text."""


def bad(name: str) -> Callable[[Signer], bytes]:
    return lambda root: chains.BAD[name](root, DOMAIN)


def good(root: Signer) -> bytes:
    return chains.served(chains.make(root, DOMAIN))


WRONG: Final = (
    Wrong("no EHLO", "TLSNotOffered", "the remote host does not know EHLO: 50", "4.7.4", good,
          {"smtpd_command_filter": "ehlo"}, clear=True),
    Wrong("no STARTTLS", "TLSNotOffered", "STARTTLS is not in the EHLO reply", "4.7.4", good,
          {"smtpd_tls_security_level": "none"}, clear=True),
    Wrong("STARTTLS refused", "TLSRefused", "STARTTLS was answered with an error: 50", "4.7.4", good,
          {"smtpd_command_filter": "starttls"}, clear=True),
    Wrong("no protocol in common", "HandshakeFailed", "handshake failed (protocol, cipher or our certificate refused)",
          "4.7.5", good, {"smtpd_tls_protocols": "<=TLSv1.1", "smtpd_tls_mandatory_protocols": "<=TLSv1.1",
                          "tls_medium_cipherlist": "ALL:@SECLEVEL=0"}),
    Wrong("an unknown CA", "NotTrusted", "chain not trusted (issuer missing): ", "4.7.5",
          bad("ISSUER_MISSING, unknown CA")),
    Wrong("an unknown CA that is sent", "NotTrusted", "chain not trusted: ", "4.7.5",
          bad("NOT_TRUSTED, unknown CA that is sent")),
    Wrong("self-signed", "NotTrusted", "chain not trusted (self-signed): ", "4.7.5", bad("SELF_SIGNED")),
    Wrong("an intermediate missing", "NotTrusted", "chain not trusted (issuer missing): ", "4.7.5",
          bad("ISSUER_MISSING")),
    Wrong("expired", "Expired", "expired: the certificate of CN=leaf expired on ", "4.7.5", bad("EXPIRED")),
    Wrong("an expired intermediate", "Expired", "expired: the certificate of CN=intermediate expired on ", "4.7.5",
          bad("EXPIRED, the intermediate")),
    Wrong("not yet valid", "Expired", "not yet valid: the certificate of CN=leaf is valid only from ", "4.7.5",
          bad("NOT_YET_VALID")),
    Wrong("another name", "NameMismatch", "name did not match: asked for {domain}; certificate is for other.test",
          "4.7.5", bad("NAME_MISMATCH")),
    Wrong("another common name", "NameMismatch", "name did not match: asked for {domain}; common name other.test",
          "4.7.5", bad("NAME_MISMATCH, another common name")),
)  # fmt: skip
GOOD: Final = 50
NO_TLS: Final = 2
EXPIRED: Final = 9
MISNAMED: Final = 12


def at(number: int) -> str:
    return f"{NETWORK}.{number}"


@pytest.fixture(scope="module")
def root() -> Signer:
    return Signer.of(Authority())


@pytest.fixture(scope="module")
def receiver(root: Signer) -> Iterator[Postfix]:
    made = Postfix.receiving(certificate=good(root), domains=("static:all",))
    filters = {name: made.directory / name for name in ("ehlo", "starttls")}
    for name, path in filters.items():
        path.write_text(f"/^{name}/ BOGUS\n")
        path.chmod(0o644)
    for number, wrong in enumerate(WRONG, 1):
        settings = {**wrong.settings, "syslog_name": f"postfix/at-{number}"}
        if deaf_to := settings.get("smtpd_command_filter"):
            settings["smtpd_command_filter"] = f"regexp:{filters[deaf_to]}"
        assert wrong.pem is not None
        made.listen_at(at(number), 25, wrong.pem(root), settings=settings)
    made.listen_at(at(GOOD), 25, good(root), settings={"syslog_name": f"postfix/at-{GOOD}"})
    with made:
        yield made


def to(mode: ResolvedTLSMode, *numbers: int, domain: str = DOMAIN, **changes: Any) -> Destination:
    """A destination with the hosts at these addresses, all of one priority."""
    hops = [route(25, at(number)) for number in numbers]
    fields: dict[str, Any] = {
        "resource": mode,
        "tls_mode": mode,
        "routes": hops,
        "min_version": "TLSv1.2",
        "min_version_set": True,
    }
    return destination(domain, **(fields | changes))


def subject(receiver: Postfix, words: str) -> list[bytes]:
    """Messages in the mailbox whose own header has this subject."""
    return [
        one
        for one in receiver.messages()
        if f"\nSubject: {words}\n".encode() in one.partition(b"\n\n")[0] + b"\n"
    ]


def letter(words: str) -> bytes:
    return f"From: a@sender.example\r\nSubject: {words}\r\n\r\nthe secret text\r\n".encode()


async def check(made: Delivering, domain: str = DOMAIN) -> dict[str, Any]:
    asked = checking.request(domain, seconds=60)
    return await asyncio.to_thread(checking.check, made.snapshot, made.files.content, "default-0", asked)


@pytest.mark.parametrize("number", range(1, len(WRONG) + 1), ids=[wrong.id for wrong in WRONG])
async def test_every_reason_is_in_the_log_with_the_names_of_both_sides(
    tmp_path: Path, receiver: Postfix, root: Signer, number: int
) -> None:
    wrong = WRONG[number - 1]
    words = wrong.says.replace("{domain}", DOMAIN)
    async with delivering(tmp_path, timeouts=Timeouts()) as made:
        made.trusted = [root.pem]
        made.apply(to("RequiredVerify", number))
        await made.send(f"someone@{DOMAIN}", body=letter(wrong.id))
        state = await until(
            lambda: (one := made.state("RequiredVerify")) and one.failing and one, "a failure", seconds=30
        )
        await until(made.deferred, "the deferral")
        assert (state.last_tls.result, [one.reason for one in state.failing]) == (
            wrong.reason,
            [wrong.reason],
        )
        assert made.logged(f"TLS failed: {words}")
        assert made.logged(f" - {wrong.status} {words}")
        assert made.logged(f"IP {at(number)} TLS was required but could not be successfully negotiated")
        if wrong.status == "4.7.5" and wrong.reason != "HandshakeFailed":
            assert f"asked for {DOMAIN}; " in state.last_tls.reason
        assert subject(receiver, wrong.id) == []
        # `check` says the same, and what the others would do.
        found = await check(made)
        assert found["verdict"]["reason"] == state.last_tls.reason
        assert (found["verdict"]["result"], found["verdict"]["status"]) == (wrong.reason, wrong.status)
        # What does not insist goes on, in clear only where there was no 220.
        made.apply(to("PreferredVerify", number))
        await made.spool.hasten()
        if wrong.reason == "HandshakeFailed":
            await until(
                lambda: sum("Delayed" in one["message"] for one in made.lines) == 2, "deferral", seconds=30
            )
            assert subject(receiver, wrong.id) == []
        else:
            [arrived] = await until(lambda: subject(receiver, wrong.id), "the message", seconds=30)
            assert (b"using TLS" not in arrived) == wrong.clear
            assert made.logged(f"TLS failed: {words}" if wrong.clear else f"not verified: {words}")
        rows = {one["mode"]: one for one in found["modes"]}
        assert rows["PreferredVerify"]["delivered"] == (wrong.reason != "HandshakeFailed")
        assert rows["Required"]["delivered"] == (not wrong.clear and wrong.reason != "HandshakeFailed")


async def test_no_negotiates_no_tls_with_a_host_that_offers_it(
    tmp_path: Path, receiver: Postfix, root: Signer
) -> None:
    async with delivering(tmp_path, timeouts=Timeouts()) as made:
        made.apply(to("No", GOOD), to("Required", GOOD, domain="other.example"))
        await made.send(f"someone@{DOMAIN}", body=letter("in clear"))
        [arrived] = await until(lambda: subject(receiver, "in clear"), "the message", seconds=30)
        assert b"using TLS" not in arrived
        await until(lambda: "disconnect from" in at_host(receiver, GOOD), "the end of the session")
        assert "TLS connection established" not in at_host(receiver, GOOD)
        assert "starttls=" not in at_host(receiver, GOOD)
        # That Postfix would have said so shows with another mode.
        await made.send("someone@other.example", body=letter("encrypted"))
        [arrived] = await until(lambda: subject(receiver, "encrypted"), "the message", seconds=30)
        assert b"using TLSv1.3" in arrived
        await until(
            lambda: "TLS connection established" in at_host(receiver, GOOD), "Postfix's word", seconds=30
        )
        assert made.logged("TLS success protocol TLSv1.3 cipher TLS_AES_256_GCM_SHA384")


def at_host(receiver: Postfix, number: int) -> str:
    """What Postfix says of the sessions at one of its addresses."""
    return "\n".join(line for line in receiver.log.splitlines() if f"postfix/at-{number}/smtpd" in line)


async def test_a_refused_host_is_followed_by_the_next_of_the_same_priority(
    tmp_path: Path, receiver: Postfix, root: Signer
) -> None:
    async with delivering(tmp_path, timeouts=Timeouts()) as made:
        made.trusted = [root.pem]
        made.apply(to("RequiredVerify", NO_TLS, MISNAMED, EXPIRED, GOOD))
        # Whichever of the four is first, the one that can be verified gets all.
        for number in range(4):
            await made.send(f"someone@{DOMAIN}", body=letter(f"next {number}"))
            [arrived] = await until(
                lambda number=number: subject(receiver, f"next {number}"), "a message", seconds=30
            )
            assert b"using TLSv1.3" in arrived
            await until(lambda: not made.delivery.sessions, "the connection to end")
        for words in ("STARTTLS is not in the EHLO reply", "name did not match", "expired: "):
            assert made.logged(words)
        assert not made.logged("Delayed: ")
        assert made.logged(f"verified name {DOMAIN} (Recipient)")


@pytest.mark.parametrize("ret", ["", "FULL"])
async def test_when_time_is_up_the_sender_gets_the_headers_and_the_reason(
    tmp_path: Path, receiver: Postfix, root: Signer, ret: str
) -> None:
    about = f"too late {ret or 'by default'}"
    async with delivering(tmp_path, timeouts=Timeouts()) as made:
        made.trusted = [root.pem]
        schedule = RetrySchedule(initial=0.1, max=0.1, attempts=3)
        made.settings = made.settings.model_copy(update={"retry": schedule})
        back = destination(
            "sender.example", resource="back", routes=[route(25, at(GOOD))], tls_mode="Required"
        )
        made.apply(to("RequiredVerify", NO_TLS, MISNAMED), back)
        await made.send(f"someone@{DOMAIN}", body=letter(about), ret=ret)
        bounces = await until(
            lambda: [one for one in receiver.messages() if f"\nSubject: {about}\n".encode() in one],
            "the bounce",
            seconds=60,
        )
        await until(lambda: made.spool.queue_length() == 0, "an empty queue")
        assert sum("Delayed: " in one["message"] for one in made.lines) == 2
        assert sum("Bounced: " in one["message"] for one in made.lines) == 1
    [raw] = bounces
    assert b"the secret text" not in raw
    assert b"using TLSv1.3" in raw
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert message["Return-Path"] in (None, "<>")
    assert message.get_content_type() == "multipart/report"
    words, status, header = message.iter_parts()
    assert "TLS was required but could not be negotiated" in words.get_content()
    fields: Any = list(status.get_payload())[1]  # pyright: ignore[reportArgumentType]
    assert (fields["Action"], fields["Status"][:4]) == ("failed", "5.7.")
    assert fields["Final-Recipient"] == f"rfc822; someone@{DOMAIN}"
    assert header.get_content_type() == "text/rfc822-headers"
    assert f"Subject: {about}" in str(header.get_payload())
    # Another program, with a parser of its own, finds the same.
    assert "Status: 5.7." in reformime(raw, "-s", "1.2", "-e")
    assert f"Subject: {about}" in reformime(raw, "-s", "1.3", "-e")


def reformime(text: bytes, *arguments: str) -> str:
    command = [str(programs.require("reformime")), *arguments]
    return subprocess.run(command, input=text, capture_output=True, timeout=30, check=True).stdout.decode()
