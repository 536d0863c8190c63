"""Next hops from real name servers (nsd behind unbound), to a real Postfix with an address for each MX host (D8, D13).

All cases are sent at once; what is looked at is who got the mail, who was tried before, and what the sender is told.
"""

import asyncio
import email
import email.policy
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import uvloop

from letterlock_gateway.deliver import lookups
from letterlock_gateway.deliver.lookups import AddressFamily
from letterlock_gateway.deliver.terms import Timeouts
from letterlock_gateway.manage import checking
from tests.harness.deliveries import Delivering, delivering, route, until
from tests.harness.mounts import destination
from tests.harness.nameservers import NameServers, SilentNameServer
from tests.harness.postfix import Postfix

NETWORK: Final = "127.84.0"
# Host n.hosts.example has the address n of the network; Postfix listens on these, and nobody on the others.
THERE: Final = (1, 2, 3, 4, 5, 6, 7, 8)
DEAD: Final = 90
ZONES: Final = {
    "example": [
        *(f"{n}.hosts IN A {NETWORK}.{n}" for n in (*THERE, DEAD, DEAD + 1)),
        "six.hosts IN AAAA ::1",
        "both.hosts IN AAAA ::1",
        f"both.hosts IN A {NETWORK}.1",
        f"many.hosts IN A {NETWORK}.{DEAD}",
        f"many.hosts IN A {NETWORK}.2",
        "alias.hosts IN CNAME 3.hosts",
        "empty.hosts IN TXT nothing",
        "order IN MX 20 2.hosts",
        f"order IN MX 10 {DEAD}.hosts",
        "order IN MX 30 3.hosts",
        "equal IN MX 10 4.hosts",
        "equal IN MX 10 5.hosts",
        "both IN MX 10 both.hosts",
        "v6 IN MX 10 six.hosts",
        "addresses IN MX 10 many.hosts",
        "null IN MX 0 .",
        "alias IN CNAME order",
        "mxalias IN MX 10 alias.hosts",
        f"itself IN A {NETWORK}.6",
        "nothing IN TXT x",
        f"loop IN MX 10 {DEAD}.hosts",
        "loop IN MX 20 mx.letterlock.example.",
        "loop IN MX 30 7.hosts",
        "ours IN MX 10 mx.letterlock.example.",
        "ours IN MX 20 7.hosts",
        "ghost IN MX 10 nobody.hosts",
        "ghost IN MX 20 2.hosts",
        "ghosts IN MX 10 nobody.hosts",
        "noaddress IN MX 10 empty.hosts",
        "halfbroken IN MX 10 mx.broken.",
        "halfbroken IN MX 20 8.hosts",
        "allbroken IN MX 10 mx.broken.",
        "servfail IN TXT x",
    ],
}


@dataclass(frozen=True)
class Case:
    """A domain, and what becomes of its mail."""

    domain: str
    what: str
    at: str = ""
    """The address that gets it; empty: none."""
    tried: tuple[str, ...] = ()
    """Addresses that were tried in vain before."""
    waits: str = ""
    """Status of the deferral."""
    bounces: str = ""
    """Status of the bounce."""


def at(number: int) -> str:
    return f"{NETWORK}.{number}"


CASES: Final = (
    Case("order.example", "the best preference first", at(2), (at(DEAD),)),
    Case("addresses.example", "every address of a host", at(2)),
    Case("v6.example", "an IPv6 address", "::1"),
    Case("null.example", "a null MX (RFC 7505)", bounces="5.1.10"),
    Case("nowhere.example", "a domain that does not exist", bounces="5.1.2"),
    Case("alias.example", "a CNAME of the domain", at(2), (at(DEAD),)),
    Case("mxalias.example", "a CNAME of the MX host", at(3)),
    Case("itself.example", "no MX: the domain itself", at(6)),
    Case("nothing.example", "neither MX nor address", bounces="5.4.4"),
    Case("loop.example", "what is no better than ourselves is left out", tried=(at(DEAD),), waits="4.4.1"),
    Case("ours.example", "we are the best MX ourselves", bounces="5.4.6"),
    Case("ghost.example", "an MX host that does not exist, and one that does", at(2)),
    Case("ghosts.example", "only MX hosts that do not exist", bounces="5.1.2"),
    Case("noaddress.example", "an MX host without address", bounces="5.4.4"),
    Case("halfbroken.example", "an MX host that cannot be looked up, and one that can", at(8)),
    Case("allbroken.example", "an MX host that cannot be looked up", waits="4.4.3"),
    Case("domain.broken", "MX look-up fails: never the address instead", waits="4.4.3"),
    Case(f"[{at(1)}]", "an address literal", at(1)),
    Case("[IPv6:::1]", "an IPv6 address literal", "::1"),
    Case("[127.84.0.300]", "no address literal", bounces="5.1.2"),
)


@dataclass
class Ran:
    """What came of all of them."""

    lines: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    mids: dict[str, int] = field(default_factory=dict[str, int])
    reported: dict[str, str] = field(default_factory=dict[str, str])
    """Host addresses of the last delivery, by domain."""
    checked: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    mailbox: list[bytes] = field(default_factory=list[bytes])
    log: str = ""

    def tried(self, domain: str) -> list[str]:
        """Addresses that were tried in vain, in order."""
        words = f"domain: {domain.lower()} IP: "
        found = [one["message"].partition(words)[2].partition(" ")[0] for one in self.lines]
        return [one for one in found if one]


def postfix() -> Postfix:
    made = Postfix.receiving(domains=("static:all",), settings={"inet_protocols": "all"})
    for number in THERE:
        made.listen_at(at(number), 25, settings={"syslog_name": f"postfix/at-{number}"})
    made.listen_at("::1", 25, settings={"syslog_name": "postfix/at-six"})
    return made


def use(made: Delivering, *resolvers: str, family: AddressFamily = "Any") -> None:
    changes = {"resolvers": list(resolvers), "address_family": family}
    made.settings = made.settings.model_copy(update=changes)


async def run(ran: Ran, directory: Path, receiver: Postfix, resolver: str) -> None:
    async with delivering(directory, timeouts=Timeouts()) as made:
        use(made, resolver)
        made.apply(
            destination(resource="all", tls_mode="No"),
            destination("sender.example", resource="back", tls_mode="No", routes=[route(receiver.port)]),
        )
        for case in CASES:
            body = f"Subject: {case.domain}\r\n\r\nhello\r\n".encode()
            ran.mids[case.domain] = await made.send(f"someone@{case.domain}", body=body)

        def ended(case: Case) -> bool:
            mid = ran.mids[case.domain]
            ends = ("Message done", "Delayed: ", "Bounced: ")
            return any(one.get("mid") == mid and one["message"].startswith(ends) for one in made.lines)

        for case in CASES:
            await until(lambda case=case: ended(case), case.what, seconds=60)
        bounced = sum(bool(case.bounces) for case in CASES)
        arriving = bounced + sum(bool(case.at) for case in CASES)
        await until(lambda: len(receiver.messages()) == arriving, "all mail to arrive", seconds=60)
        waiting = sum(bool(case.waits) for case in CASES)
        await until(lambda: made.spool.queue_length() == waiting, "the rest of the queue")
        for case in CASES:
            asked = checking.request(case.domain.lower(), seconds=30)
            ran.checked[case.domain] = await asyncio.to_thread(
                checking.check, made.snapshot, made.files.content, "default-0", asked
            )
        ran.lines = list(made.lines)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Postfix]:
    with postfix() as running:
        yield running


@pytest.fixture(scope="module")
def servers() -> Iterator[NameServers]:
    with NameServers(ZONES, failing=["broken"], local=[f"domain.broken. IN A {at(2)}"]) as running:
        yield running


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, receiver: Postfix, servers: NameServers) -> Ran:
    found = Ran()
    uvloop.run(run(found, tmp_path_factory.mktemp("hops"), receiver, servers.address))
    found.mailbox, found.log = receiver.messages(), receiver.log
    return found


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_mail_goes_where_the_name_servers_say(ran: Ran, case: Case) -> None:
    said = [one["message"] for one in ran.lines if one.get("mid") == ran.mids[case.domain]]
    verdict = ran.checked[case.domain]["verdict"]
    copies = [
        one
        for one in ran.mailbox
        if f"\nSubject: {case.domain}\n".encode() in one.partition(b"\n\n")[0] + b"\n"
    ]
    assert len(copies) == bool(case.at)
    if case.at:
        [dcid] = [
            one["dcid"]
            for one in ran.lines
            if one.get("mid") == ran.mids[case.domain] and one["message"].startswith("Message done")
        ]
        made = [one["message"] for one in ran.lines if one.get("dcid") == dcid]
        assert any(f" address {case.at} port 25" in one for one in made)
        assert (verdict["delivered"], verdict["address"]) == (True, case.at)
    if case.waits:
        assert any(one.startswith("Delayed: ") and f" - {case.waits} " in one for one in said), said
        assert (verdict["status"], verdict["then"]) == (case.waits, "it waits and is tried again")
    if case.bounces:
        assert any(one.startswith("Bounced: ") and f" - {case.bounces} " in one for one in said), said
        assert (verdict["status"], verdict["then"]) == (case.bounces, "it bounces")
        [bounce] = [
            one for one in ran.mailbox if f"Final-Recipient: rfc822; someone@{case.domain}".encode() in one
        ]
        message = email.message_from_bytes(bounce, policy=email.policy.default)
        assert message.get_content_type() == "multipart/report"
        assert f"Status: {case.bounces}".encode() in bounce
    if case.tried:
        assert ran.tried(case.domain) == list(case.tried)


def test_hosts_that_are_no_better_than_ourselves_hear_nothing(ran: Ran) -> None:
    assert "postfix/at-7/" not in ran.log
    assert "postfix/at-8/" in ran.log


def seen_at(receiver: Postfix) -> Counter[str]:
    """How many messages the server has got at each of its addresses."""
    found: list[str] = re.findall(r"postfix/at-(\w+)/smtpd\[\d+\]: \w+: client=", receiver.log)
    return Counter(found)


async def emptied(made: Delivering, seconds: float = 90) -> None:
    await until(lambda: made.spool.queue_length() == 0, "an empty queue", seconds=seconds)


async def test_equals_are_taken_at_random_and_routes_in_turn(
    tmp_path: Path, receiver: Postfix, servers: NameServers
) -> None:
    async with delivering(tmp_path, timeouts=Timeouts()) as made:
        use(made, servers.address)
        one_by_one: dict[str, Any] = {"tls_mode": "No", "connections": 1, "messages_per_connection": 1}
        hops = [
            route(25, at(1), priority=5), route(25, at(2), priority=5),
            route(25, at(3), priority=9), route(25, at(DEAD), priority=1),
        ]  # fmt: skip
        made.apply(
            destination("equal.example", resource="equal", **one_by_one),
            destination("turn.example", resource="turn", routes=hops, **one_by_one),
        )
        before = seen_at(receiver)
        for _ in range(20):
            await made.send("someone@equal.example")
        await emptied(made)
        await until(lambda: (seen_at(receiver) - before).total() == 20, "Postfix's log")
        # One of them alone once in half a million times.
        assert set(seen_at(receiver) - before) == {"4", "5"}
        before = seen_at(receiver)
        for _ in range(6):
            await made.send("someone@turn.example")
        await emptied(made)
        await until(lambda: seen_at(receiver) - before == {"1": 3, "2": 3}, "Postfix's log")
        tried = [one["message"] for one in made.lines if f"IP: {at(DEAD)}" in one["message"]]
        assert len(tried) == 6


@pytest.mark.parametrize(
    ("family", "first", "without"),
    [("PreferIPv4", "1", ""), ("PreferIPv6", "six", ""), ("IPv4", "1", "v6"), ("IPv6", "six", "itself")],
)
async def test_the_address_family_orders_and_restricts(
    tmp_path: Path, receiver: Postfix, servers: NameServers, family: AddressFamily, first: str, without: str
) -> None:
    async with delivering(tmp_path, timeouts=Timeouts()) as made:
        use(made, servers.address, family=family)
        made.apply(destination(resource="all", tls_mode="No"))
        before = seen_at(receiver)
        await made.send("someone@both.example")
        await emptied(made)
        await until(lambda: seen_at(receiver) - before == {first: 1}, "Postfix's log")
        if without:
            await made.send(f"someone@{without}.example", sender="")
            await emptied(made)
            await until(lambda: made.logged("5.4.4"), "the bounce in the log")
            assert seen_at(receiver) - before == {first: 1}


async def test_a_name_server_that_says_nothing_delays_the_mail_or_is_passed_over(
    tmp_path: Path, receiver: Postfix, servers: NameServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "_SECONDS", 1.0)
    with SilentNameServer() as silent:
        async with delivering(tmp_path, timeouts=Timeouts()) as made:
            use(made, silent.address)
            made.apply(destination("itself.example", resource="itself", tls_mode="No"))
            before = seen_at(receiver)
            await made.send("someone@itself.example")
            await until(made.deferred, "the deferral", seconds=30)
            assert made.logged("4.4.3 MX look-up of itself.example failed")
            assert seen_at(receiver) == before
            monkeypatch.setattr(lookups, "_SECONDS", 30.0)
            use(made, silent.address, servers.address)
            made.apply()
            await made.spool.hasten()
            await emptied(made)
            await until(lambda: seen_at(receiver) - before == {"6": 1}, "Postfix's log")
