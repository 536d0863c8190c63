"""Delivery end to end in one event loop: transactions, reuse, routing, deferrals, bounces, policy changes."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from letterlock_api.snapshot import Destination, RetrySchedule
from letterlock_gateway.deliver.terms import Timeouts
from tests.harness.certificates import Authority
from tests.harness.deliveries import LETTER, Delivering, delivering, route, until
from tests.harness.faulty_smtp import FaultySMTP
from tests.harness.mounts import destination
from tests.harness.nameserver import Nameserver


def to_mailbox(*servers: FaultySMTP, **changes: Any) -> Destination:
    routes = [route(server.port, priority=n) for n, server in enumerate(servers)]
    fields: dict[str, Any] = {"resource": "mailbox", "tls_mode": "No", "routes": routes}
    return destination("mailbox.example", **(fields | changes))


def to_sender(server: FaultySMTP) -> Destination:
    return destination("sender.example", resource="back", tls_mode="No", routes=[route(server.port)])


async def emptied(made: Delivering, *, but: int = 0) -> None:
    await until(lambda: made.spool.queue_length() == but, f"a queue of {but}", seconds=30)


async def test_recipients_of_one_message_share_one_transaction(tmp_path: Path) -> None:
    async with FaultySMTP() as server, delivering(tmp_path) as made:
        made.apply(to_mailbox(server))
        await made.send("b@mailbox.example", "c@mailbox.example", "d@MAILBOX.example")
        await emptied(made)
        assert len(server.delivered) == 1
        assert len(server.delivered[0].recipients) == 3
        assert server.delivered[0].data == LETTER


@pytest.mark.parametrize("keywords", [("PIPELINING",), ()], ids=["pipelined", "step by step"])
async def test_each_recipient_gets_what_the_next_hop_said_of_it(
    tmp_path: Path, keywords: tuple[str, ...]
) -> None:
    async with (
        FaultySMTP(fault="RCPT 550 for bad", keywords=keywords) as server,
        FaultySMTP() as senders,
        delivering(tmp_path) as made,
    ):
        made.apply(to_mailbox(server), to_sender(senders))
        await made.send("good@mailbox.example", "bad@mailbox.example")
        await emptied(made)
        await until(lambda: senders.delivered, "the bounce")
        assert [len(one.recipients) for one in server.delivered] == [1]
        bounce = senders.delivered[0].data
        assert b"Final-Recipient: rfc822; bad@mailbox.example" in bounce
        assert b"Status: 5.1.1" in bounce
        assert b"Diagnostic-Code: smtp; 550 5.1.1 unknown" in bounce
        assert b"good@mailbox.example" not in bounce
        assert made.logged("Message done DCID")
        assert made.logged("Bounced: DCID")


@pytest.mark.parametrize("fault", ["RCPT 451 for bad", "MAIL 451", "message 451"])
async def test_temporary_answers_defer(tmp_path: Path, fault: Any) -> None:
    async with FaultySMTP(fault=fault) as server, delivering(tmp_path) as made:
        made.apply(to_mailbox(server))
        await made.send("bad@mailbox.example")
        await until(lambda: made.logged("Delayed: DCID"), "the deferral")
        server.fault = ""
        await made.spool.hasten()
        await emptied(made)
        assert len(server.delivered) == 1


@pytest.mark.parametrize("fault", ["MAIL 550", "RCPT 550", "DATA 554", "message 554"])
@pytest.mark.parametrize("keywords", [("PIPELINING",), ()], ids=["pipelined", "step by step"])
async def test_permanent_answers_bounce_and_the_connection_serves_on(
    tmp_path: Path, fault: Any, keywords: tuple[str, ...]
) -> None:
    async with (
        FaultySMTP(fault=fault, keywords=keywords) as server,
        FaultySMTP() as senders,
        delivering(tmp_path, idle=5) as made,
    ):
        made.apply(to_mailbox(server), to_sender(senders))
        await made.send()
        await until(lambda: senders.delivered, "the bounce")
        assert senders.delivered[0].mail.startswith("MAIL FROM:<>")
        server.fault = ""
        await made.send()
        await until(lambda: server.delivered, "the next message")
        assert len(server.sessions) == 1


async def test_the_null_sender_and_notify_never_get_no_bounce(tmp_path: Path) -> None:
    async with FaultySMTP(fault="RCPT 550") as server, FaultySMTP() as senders, delivering(tmp_path) as made:
        made.apply(to_mailbox(server), to_sender(senders))
        await made.send(sender="")
        await made.send(notify="NEVER")
        await made.send(notify="SUCCESS,DELAY")
        await until(lambda: sum("Bounced:" in line["message"] for line in made.lines) == 3, "three failures")
        await emptied(made)
        assert senders.sessions == []


async def test_a_connection_is_used_for_as_many_messages_as_allowed(tmp_path: Path) -> None:
    async with FaultySMTP() as server, delivering(tmp_path, idle=5) as made:
        made.apply(to_mailbox(server, connections=1, messages_per_connection=3))
        for _ in range(7):
            await made.send()
        await emptied(made)
        assert len(server.delivered) == 7
        per_session = [bytes(one.clear).count(b"MAIL FROM") for one in server.sessions]
        assert per_session == [3, 3, 1]


async def test_more_messages_than_the_next_hop_wants_go_over_another_connection(tmp_path: Path) -> None:
    async with FaultySMTP() as server, delivering(tmp_path, idle=5) as made:
        server.quit_after = 2
        made.apply(to_mailbox(server, connections=1))
        for _ in range(5):
            await made.send()
        await emptied(made)
        assert len(server.delivered) == 5
        assert len(server.sessions) == 3
        assert not made.logged("Delayed:")


async def test_the_connections_of_a_destination_are_limited(tmp_path: Path) -> None:
    async with FaultySMTP() as server, delivering(tmp_path) as made:
        server.pause = 0.02
        for _ in range(20):
            await made.send()
        made.apply(to_mailbox(server, connections=2))
        await emptied(made)
        assert len(server.delivered) == 20
        assert len(server.sessions) == 2


async def test_recipients_per_period_are_limited(tmp_path: Path) -> None:
    async with FaultySMTP() as server, delivering(tmp_path) as made:
        for _ in range(5):
            await made.send()
        made.apply(to_mailbox(server, recipients_count=2, recipients_period=2.0))
        await until(lambda: len(server.delivered) >= 2, "the first two")
        assert len(server.delivered) == 2
        await emptied(made)
        assert len(server.delivered) == 5


async def test_a_slow_destination_delays_no_other(tmp_path: Path) -> None:
    patient = Timeouts(greeting=600)
    async with (
        FaultySMTP(fault="no greeting") as slow,
        FaultySMTP() as fast,
        delivering(tmp_path, timeouts=patient) as made,
    ):
        there = destination("slow.example", resource="slow", tls_mode="No", routes=[route(slow.port)])
        made.apply(there, to_mailbox(fast))
        for _ in range(100):
            await made.send("b@slow.example")
        await made.send()
        await until(lambda: fast.delivered, "the fast one's message", seconds=30)
        assert not made.logged("Delayed:")
        slow.hang_up()


@pytest.mark.parametrize("fault", ["closes on MAIL", "closes before the end of data", "greeting 421"])
async def test_a_broken_host_is_given_up_for_the_next_one(tmp_path: Path, fault: Any) -> None:
    async with FaultySMTP(fault=fault) as broken, FaultySMTP() as good, delivering(tmp_path) as made:
        made.apply(to_mailbox(broken, good))
        # Too large for the buffers on the way: we notice that the next hop is gone before all is sent.
        await made.send(body=LETTER + (b"x" * 76 + b"\r\n") * 100_000)
        await emptied(made)
        assert len(good.delivered) == 1
        assert not made.logged("Delayed:")


async def test_a_host_that_is_down_is_not_asked_for_every_message(tmp_path: Path) -> None:
    async with FaultySMTP() as server, delivering(tmp_path) as made:
        server.stop_listening()
        made.apply(to_mailbox(server))
        began = time.monotonic()
        for _ in range(200):
            await made.send()
            await asyncio.sleep(0.005)
        await until(
            lambda: sum("Delayed:" in one["message"] for one in made.lines) == 200, "all deferred", seconds=60
        )
        errors = sum("Connection Error" in one["message"] for one in made.lines)
        assert errors <= (time.monotonic() - began) / 0.2 + 10, "each domain has a breath between two tries"


async def test_a_connection_lost_after_the_end_of_data_defers(tmp_path: Path) -> None:
    async with FaultySMTP(fault="closes after the end of data") as server, delivering(tmp_path) as made:
        made.apply(to_mailbox(server))
        await made.send()
        await until(lambda: made.logged("lost while waiting for the reply to the message"), "the deferral")
        await until(lambda: made.logged("Delayed:"), "the deferral")
        assert made.spool.queue_length() == 1


async def test_a_domain_fails_until_the_last_mail_for_it_is_gone(tmp_path: Path) -> None:
    """One message bounces, the other goes on waiting: the domain still fails. Then an administrator deletes it."""
    now = [1_800_000_000.0]
    async with FaultySMTP() as plain, delivering(tmp_path, clock=lambda: now[0]) as made:
        made.settings = made.settings.model_copy(
            update={"retry": RetrySchedule(initial=3600, max=3600, give_up_after=7200)}
        )
        made.apply(to_mailbox(plain, tls_mode="Required"), to_sender(plain))
        await made.send()
        await until(lambda: made.logged("Delayed:"), "the first deferral")
        now[0] += 7199
        young = await made.send()
        await until(
            lambda: {young} <= {line["mid"] for line in made.lines if "Delayed:" in line["message"]}, "both"
        )
        now[0] += 2
        await made.spool.hasten()
        await until(lambda: made.logged("Bounced:"), "the bounce of the first")
        await emptied(made, but=1)

        def failing() -> list[str]:
            state = made.state("mailbox")
            return [one.domain for one in state.failing] if state else []

        assert failing() == ["mailbox.example"], "one more waits"
        await made.delivery.delete(await made.spool.waiting([young]), "deleted")
        assert failing() == []


async def test_hosts_of_one_priority_are_taken_in_turn_whatever_else_is_sent(tmp_path: Path) -> None:
    async with FaultySMTP() as one, FaultySMTP() as two, delivering(tmp_path, idle=0) as made:
        routes = [route(one.port), route(two.port)]
        made.apply(
            *(
                destination(name, resource=name[0], tls_mode="No", routes=routes)
                for name in ("a.example", "b.example")
            )
        )
        for _ in range(4):
            for name in ("a.example", "b.example"):
                await made.send(f"someone@{name}")
                await emptied(made)
        for server in (one, two):
            assert sorted(to for sent in server.delivered for to in sent.recipients) == [
                *["RCPT TO:<someone@a.example>"] * 2,
                *["RCPT TO:<someone@b.example>"] * 2,
            ]


async def test_an_idle_connection_that_the_peer_closed_costs_nothing(tmp_path: Path) -> None:
    async with FaultySMTP() as server, delivering(tmp_path, idle=5) as made:
        made.apply(to_mailbox(server))
        await made.send()
        await until(lambda: server.delivered, "the first")
        server.hang_up()
        await made.send()
        await until(lambda: len(server.delivered) == 2, "the second")
        assert not made.logged("Delayed:")


async def test_a_stricter_policy_holds_for_the_very_next_message(tmp_path: Path) -> None:
    """An open clear-text connection is not used when TLS has become required meanwhile."""
    async with FaultySMTP() as server, delivering(tmp_path, idle=10) as made:
        made.apply(to_mailbox(server, tls_mode="Preferred"))
        await made.send()
        await until(lambda: server.delivered, "the first message")
        made.apply(to_mailbox(server, tls_mode="Required"))
        await made.send(body=b"Subject: no\r\n\r\nnot in clear text\r\n")
        await until(lambda: made.logged("Delayed:"), "the deferral")
        assert len(server.delivered) == 1
        assert b"not in clear text" not in server.clear


async def test_a_change_of_trust_closes_verified_connections(tmp_path: Path) -> None:
    authority = Authority()
    async with (
        FaultySMTP(authority.issue("mailbox.example")) as server,
        delivering(tmp_path, idle=10) as made,
    ):
        made.trusted = [authority.pem]
        made.apply(to_mailbox(server, tls_mode="RequiredVerify"))
        await made.send()
        await until(lambda: server.delivered, "the first message")
        made.trusted = []
        made.apply()
        await made.send()
        await until(lambda: made.logged("chain not trusted"), "the refusal")
        assert len(server.delivered) == 1


async def test_an_unchanged_policy_keeps_connections(tmp_path: Path) -> None:
    async with FaultySMTP() as server, delivering(tmp_path, idle=10) as made:
        made.apply(to_mailbox(server))
        await made.send()
        await until(lambda: server.delivered, "the first message")
        made.apply(to_mailbox(server), destination("other.example", tls_mode="Required"))
        # The idle session wakes up and finds nothing to do; what comes before that goes over its connection.
        await made.send()
        await until(lambda: len(server.delivered) == 2, "the second message")


async def test_mail_waits_for_the_first_set(tmp_path: Path) -> None:
    async with FaultySMTP() as server, delivering(tmp_path) as made:
        await made.send()
        assert made.spool.queue_length() == 1
        made.apply(to_mailbox(server))
        await emptied(made)
        assert len(server.delivered) == 1


async def test_dsn_size_and_8bitmime_go_to_hosts_that_offer_them(tmp_path: Path) -> None:
    async with FaultySMTP() as server, delivering(tmp_path) as made:
        made.apply(to_mailbox(server))
        body = "Subject: x\r\n\r\nümlaut\r\n".encode()
        await made.send(body=body, notify="FAILURE", body_8bit=True, ret="HDRS", envid="QQ314159")
        await emptied(made)
        (one,) = server.delivered
        assert one.mail == (
            f"MAIL FROM:<a@sender.example> SIZE={len(body)} BODY=8BITMIME RET=HDRS ENVID=QQ314159"
        )
        assert one.recipients == ("RCPT TO:<b@mailbox.example> NOTIFY=FAILURE",)


async def test_smtputf8_mail_goes_only_to_hosts_that_offer_it(tmp_path: Path) -> None:
    async with (
        FaultySMTP(keywords=("PIPELINING",)) as plain,
        FaultySMTP() as senders,
        delivering(tmp_path) as made,
    ):
        made.apply(to_mailbox(plain), to_sender(senders))
        await made.send("jörg@mailbox.example", smtputf8=True)
        await until(lambda: senders.delivered, "the bounce")
        assert b"Status: 5.6.7" in senders.delivered[0].data
        assert not plain.said(b"MAIL")
        plain.keywords = ("PIPELINING", "SMTPUTF8")
        await until(lambda: not made.delivery.sessions, "the connections to end")
        await made.send("jörg@mailbox.example", smtputf8=True)
        await until(lambda: plain.delivered, "the message")
        assert plain.delivered[0].recipients == ("RCPT TO:<jörg@mailbox.example>",)
        assert "SMTPUTF8" in plain.delivered[0].mail


async def test_large_messages_arrive_unchanged(tmp_path: Path) -> None:
    body = b"Subject: large\r\n\r\n" + b".".join(
        os.urandom(40).hex().encode() + b"\r\n" for _ in range(60_000)
    )
    async with FaultySMTP() as server, delivering(tmp_path) as made:
        made.apply(to_mailbox(server))
        await made.send(body=body)
        await emptied(made)
        assert server.delivered[0].data == body


# MX. Port 25 on addresses of loopback that nothing else uses.

MX_TLS: dict[str, Any] = {"tls_mode": "RequiredVerifyHostedDomains", "routes": []}


def can_bind_25() -> bool:
    return os.geteuid() == 0


needs_25 = pytest.mark.skipif(not can_bind_25(), reason="port 25 needs root")


def use_dns(made: Delivering, server: Nameserver) -> None:
    changes = {"resolvers": [server.address], "address_family": "IPv4"}
    made.settings = made.settings.model_copy(update=changes)


@needs_25
async def test_mx_hosts_are_tried_in_order_and_verified_by_their_names(tmp_path: Path) -> None:
    authority = Authority()
    records = {
        ("mailbox.example", "MX"): ["20 mx2.provider.example.", "10 mx1.provider.example."],
        ("mx1.provider.example", "A"): ["127.81.0.1"],
        ("mx2.provider.example", "A"): ["127.81.0.2"],
    }
    first = FaultySMTP(authority.issue("wrong.example"), address="127.81.0.1", port=25)
    second = FaultySMTP(authority.issue("mx2.provider.example"), address="127.81.0.2", port=25)
    async with first, second, Nameserver(records) as names, delivering(tmp_path) as made:
        made.trusted = [authority.pem]
        use_dns(made, names)
        made.apply(to_mailbox(**MX_TLS))
        await made.send()
        await emptied(made)
        assert (first.delivered, len(second.delivered)) == ([], 1)
        state = await until(lambda: made.state("mailbox"), "the report")
        last = state.last_tls
        assert (last.matched_name, last.name_source) == ("mx2.provider.example", "MX")
        assert (last.host, last.address) == ("mx2.provider.example", "127.81.0.2")
        assert second.sessions[0].sni == "mx2.provider.example"


@needs_25
async def test_a_common_name_certificate_is_judged_by_the_reverse_name_too(tmp_path: Path) -> None:
    authority = Authority()
    records = {
        ("mailbox.example", "MX"): ["10 mx.mailbox.example."],
        ("mx.mailbox.example", "A"): ["127.81.0.3"],
        ("3.0.81.127.in-addr.arpa", "PTR"): ["liar.example.", "host.provider.example."],
        ("host.provider.example", "A"): ["127.81.0.3"],
        ("liar.example", "A"): ["127.81.0.99"],
    }
    server = FaultySMTP(authority.issue(common_name="host.provider.example"), address="127.81.0.3", port=25)
    async with server, Nameserver(records) as names, delivering(tmp_path) as made:
        made.trusted = [authority.pem]
        use_dns(made, names)
        made.apply(to_mailbox(tls_mode="RequiredVerify", routes=[]))
        await made.send()
        await emptied(made)
        state = await until(lambda: made.state("mailbox"), "the report")
        assert state.last_tls.name_source == "Reverse"
        server.use_certificate(authority.issue(common_name="liar.example"))
        await until(lambda: not made.delivery.sessions, "the connection to end")
        await made.send()
        await until(lambda: made.logged("name did not match"), "the refusal")
        assert len(server.delivered) == 1


@needs_25
async def test_a_domain_without_mx_is_its_own_mail_host(tmp_path: Path) -> None:
    records = {("mailbox.example", "A"): ["127.81.0.4"]}
    server = FaultySMTP(address="127.81.0.4", port=25)
    async with server, Nameserver(records) as names, delivering(tmp_path) as made:
        use_dns(made, names)
        made.apply(to_mailbox(routes=[]))
        await made.send()
        await emptied(made)
        assert len(server.delivered) == 1


@pytest.mark.parametrize(
    ("records", "status"),
    [
        ({("mailbox.example", "MX"): ["0 ."]}, b"5.1.10"),
        ({("else.example", "A"): ["127.0.0.1"]}, b"5.1.2"),
        ({("mailbox.example", "TXT"): ["x"]}, b"5.4.4"),
        ({("mailbox.example", "MX"): ["10 mx.letterlock.example."]}, b"5.4.6"),
    ],
    ids=["null MX", "the domain does not exist", "no address", "we are the MX ourselves"],
)
async def test_domains_that_take_no_mail_bounce(
    tmp_path: Path, records: dict[tuple[str, str], list[str]], status: bytes
) -> None:
    async with FaultySMTP() as senders, Nameserver(records) as names, delivering(tmp_path) as made:
        use_dns(made, names)
        made.apply(to_mailbox(routes=[]), to_sender(senders))
        await made.send()
        await until(lambda: senders.delivered, "the bounce")
        assert b"Status: " + status in senders.delivered[0].data


async def test_a_name_server_that_fails_defers(tmp_path: Path) -> None:
    async with Nameserver({}, failing=("mailbox.example",)) as names, delivering(tmp_path) as made:
        use_dns(made, names)
        made.apply(to_mailbox(routes=[]))
        await made.send()
        await until(lambda: made.logged("Delayed:"), "the deferral", seconds=20)
        assert made.logged("4.4.3")
        assert made.spool.queue_length() == 1
        state = await until(lambda: made.state("mailbox"), "the report")
        assert state.last_tls.result == "Unreachable"


async def test_for_hosted_domains_an_address_as_route_goes_by_the_mx_host_that_has_it(
    tmp_path: Path,
) -> None:
    authority = Authority()
    records = {
        ("mailbox.example", "MX"): ["10 mx1.provider.example.", "20 mx2.provider.example."],
        ("mx1.provider.example", "A"): ["127.81.0.9"],
        ("mx2.provider.example", "A"): ["127.0.0.1"],
    }
    pem = authority.issue("mx1.provider.example")
    async with FaultySMTP(pem) as server, Nameserver(records) as names, delivering(tmp_path) as made:
        made.trusted = [authority.pem]
        use_dns(made, names)
        made.apply(to_mailbox(server, tls_mode="RequiredVerifyHostedDomains"))
        await made.send()
        await until(lambda: made.logged("asked for mailbox.example, mx2.provider.example"), "the refusal")
        server.use_certificate(authority.issue("mx2.provider.example"))
        await made.spool.hasten()
        await emptied(made)
        state = await until(
            lambda: (state := made.state("mailbox")) and not state.failing and state, "report"
        )
        assert state.last_tls.name_source == "MX"
