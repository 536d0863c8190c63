"""Host access and mail-flow policies as manifests say, on the wire: real name servers, swaks as the client (L3, L7)."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.gateway.manifested import from_manifest
from tests.gateway.receiving import Client, Receiving, receiving
from tests.harness.nameservers import NameServers, reverse
from tests.harness.swaks import swaks

# By their reverse names these are all hosts of partners; only some of the names lead back.
ZONES: Final = {
    "127.in-addr.arpa": [
        *reverse("127.0.6.1", "mail.partner.example"),
        *reverse("127.0.6.2", "a.b.trusted.example"),
        *reverse("127.0.6.3", "mail.partner.example"),
        *reverse("127.0.6.4", "liar.example", "MX.Trusted.example"),
        *reverse("127.0.6.5", "trusted.example"),
        *reverse("127.0.6.6", "gone.trusted.example"),
        *reverse("127.0.6.7", "nottrusted.example"),
        *reverse("127.0.6.8", "alias.trusted.example"),
    ],
    "example": [
        "mail.partner IN A 127.0.6.1",
        "a.b.trusted IN A 127.0.6.2",
        "mx.trusted IN A 192.0.2.1",
        "mx.trusted IN A 127.0.6.4",
        "liar IN A 192.0.2.9",
        "trusted IN A 127.0.6.5",
        "nottrusted IN A 127.0.6.7",
        "alias.trusted IN CNAME real",
        "real IN A 127.0.6.8",
    ],
}
# In the order of the table; each has a policy of its name, whose banner says which one it was.
GROUPS: Final[dict[str, list[str]]] = {
    "one-of-the-network": ["127.0.2.5"],
    "address": ["127.0.1.1", "127.0.1.2"],
    "network": ["127.0.2.0/24"],
    "range": ["127.0.3.10-127.0.3.20"],
    "partial": ["127.0.4."],
    "partial-without-dot": ["127.0.5"],
    "host": ["mail.partner.example"],
    "domain": [".trusted.example"],
    "six": ["2001:db8::1"],
    "six-network": ["2001:db8:1::/48"],
    "six-range": ["2001:db8:2::1-2001:db8:2::ff"],
    "by-address-and-too-late": ["127.0.6.1", "127.0.2.9"],
    "everybody": ["ALL"],
}
EXPECTED: Final = {
    "127.0.1.1": "address",
    "127.0.1.2": "address",
    "127.0.1.3": "everybody",
    "127.0.2.1": "network",
    "127.0.2.255": "network",
    "127.0.2.5": "one-of-the-network",
    "127.0.2.9": "network",
    "127.0.3.9": "everybody",
    "127.0.3.10": "range",
    "127.0.3.20": "range",
    "127.0.3.21": "everybody",
    "127.0.4.200": "partial",
    "127.0.5.7": "partial-without-dot",
    "127.0.50.7": "everybody",
    "127.0.6.1": "host",
    "127.0.6.2": "domain",
    "127.0.6.3": "everybody",  # somebody else's name
    "127.0.6.4": "domain",  # the true one of two names, one of two addresses
    "127.0.6.5": "everybody",  # the domain itself is not below it
    "127.0.6.6": "everybody",  # a name without address
    "127.0.6.7": "everybody",  # ends alike
    "127.0.6.8": "domain",  # an alias of a name that leads back
    "127.0.6.9": "everybody",  # no name at all
}
BALANCER: Final = "127.0.0.99"
SIX: Final = {
    "2001:db8::1": "six",
    "2001:db8::2": "everybody",
    "2001:db8:1:ffff::9": "six-network",
    "2001:db8:2::1": "six-range",
    "2001:db8:2::ff": "six-range",
    "2001:db8:2::100": "everybody",
    "::ffff:127.0.1.1": "address",
}


@pytest.fixture(scope="module")
def name_servers() -> Iterator[NameServers]:
    with NameServers(ZONES) as running:
        yield running


def listening(**more: Any) -> dict[str, Any]:
    return {
        "mailFlowPolicies": [{"name": name, "banner": f"you are {name}"} for name in GROUPS],
        "senderGroups": [
            {"name": name, "senders": senders, "policy": name} for name, senders in GROUPS.items()
        ],
        "recipients": [{"match": ["here.example"]}],
        **more,
    }


async def greeting(world: Receiving, source: str) -> str:
    seen = await asyncio.to_thread(
        swaks, world.port, tls=False, options=["--local-interface", source, "--quit-after", "BANNER"]
    )
    found = re.search(r"you are ([a-z-]+)", seen.text)
    assert found, seen.text
    return found[1]


async def test_every_form_of_sender_and_the_first_match_wins(
    tmp_path: Path, name_servers: NameServers
) -> None:
    async with receiving(tmp_path) as world:
        resolvers = {"delivery": {"resolvers": [name_servers.address]}}
        spec = listening(proxyProtocol={"from": [BALANCER]})
        await world.reception.apply(from_manifest(world.port, gateway=resolvers, **spec))
        found = {source: await greeting(world, source) for source in EXPECTED}
        assert found == EXPECTED
        assert "address 127.0.6.1 reverse dns host mail.partner.example verified yes" in world.log
        assert "address 127.0.6.3 reverse dns host unknown verified no" in world.log
        assert "ACCEPT SG host match mail.partner.example" in world.log
        for address, group in SIX.items():
            client = await Client.connect(world.port, source=BALANCER)
            assert f"you are {group}" in await client.raw(f"PROXY TCP6 {address} ::1 4711 25\r\n".encode())
            await client.close()


BEHAVIORS: Final[dict[str, Any]] = {
    "mailFlowPolicies": [
        {"name": "accepted"},
        {"name": "relayed", "behavior": "Relay"},
        {"name": "rejected", "behavior": "Reject", "rejectText": "Not you"},
        {"name": "default-rejected", "behavior": "Reject"},
        {"name": "refused", "behavior": "TCPRefuse"},
    ],
    "senderGroups": [
        {"name": "a", "senders": ["127.0.0.11"], "policy": "accepted"},
        {"name": "b", "senders": ["127.0.0.12"], "policy": "relayed"},
        {"name": "c", "senders": ["127.0.0.13"], "policy": "rejected"},
        {"name": "d", "senders": ["127.0.0.14"], "policy": "refused"},
        {"name": "e", "senders": ["127.0.0.15"], "policy": "default-rejected"},
    ],
    "recipients": [{"match": ["here.example"]}],
    "defaultPolicy": {"rejectText": "Nobody of yours"},
}


@pytest.mark.parametrize("kind", ["Public", "Private"])
async def test_behaviors(tmp_path: Path, kind: str) -> None:
    async with receiving(tmp_path) as world:
        await world.reception.apply(from_manifest(world.port, type=kind, **BEHAVIORS))

        def send(source: str, to: str) -> str:
            return swaks(
                world.port,
                to=to,
                tls=False,
                data=b"Subject: x\n\nx\n",
                options=["--local-interface", source],
                directory=tmp_path,
            ).text

        ours, foreign, queued = "u@here.example", "u@elsewhere.example", "250 2.0.0 Ok: queued"
        expected = {
            ("127.0.0.11", ours): queued,
            ("127.0.0.11", foreign): "550 5.7.1" if kind == "Public" else queued,
            ("127.0.0.12", ours): queued,
            ("127.0.0.12", foreign): queued,
            ("127.0.0.13", ours): "554 mx.here.example Not you",
            ("127.0.0.14", ours): "*** ",
            ("127.0.0.15", ours): "554 mx.here.example Nobody of yours",
            ("127.0.0.16", ours): queued if kind == "Public" else "554 mx.here.example Nobody of yours",
            ("127.0.0.16", foreign): "550 5.7.1"
            if kind == "Public"
            else "554 mx.here.example Nobody of yours",
        }
        for (source, to), words in expected.items():
            seen = await asyncio.to_thread(send, source, to)
            assert words in seen, (source, to, seen)
            assert (queued in seen) is (words == queued), (source, to, seen)
        assert "TCPREFUSE SG d match 127.0.0.14" in world.log
        rest = "ACCEPT SG ALL match ALL" if kind == "Public" else "REJECT SG ALL match ALL"
        assert rest in world.log


LIMITS: Final[dict[str, Any]] = {
    "defaultPolicy": {
        "banner": "common words",
        "maxMessageSize": 2000,
        "maxMessagesPerConnection": 2,
        "maxRecipientsPerMessage": 2,
        "maxConnectionsPerHost": 2,
        "maxRecipientsPerHour": 9,
        "tls": {"mode": "Required", "minVersion": "TLSv1.3"},
    },
    "mailFlowPolicies": [
        {"name": "small", "maxMessageSize": 1000},
        {"name": "wide", "maxRecipientsPerMessage": 4, "tls": {"mode": "Preferred"}},
        {"name": "many", "maxMessagesPerConnection": 3, "maxRecipientsPerHour": 2, "tls": {"mode": "No"}},
        {"name": "crowd", "maxConnectionsPerHost": 3, "banner": "own words", "tls": {"mode": "No"}},
    ],
    "senderGroups": [
        {"name": "a", "senders": ["127.0.0.21"], "policy": "small"},
        {"name": "b", "senders": ["127.0.0.22"], "policy": "wide"},
        {"name": "c", "senders": ["127.0.0.23"], "policy": "many"},
        {"name": "d", "senders": ["127.0.0.24"], "policy": "crowd"},
    ],
    "recipients": [{"match": ["here.example"]}],
}


@pytest.mark.parametrize("kind", ["Public", "Private"])
async def test_tls_is_not_offered_unless_asked_for(tmp_path: Path, kind: str) -> None:
    inside: dict[str, Any] = {
        "mailFlowPolicies": [{"name": "in"}],
        "senderGroups": [{"name": "in", "senders": ["127.0.0.0/8"], "policy": "in"}],
    }
    async with receiving(tmp_path) as world:
        for spec, offered in (
            (inside, False),
            ({**inside, "defaultPolicy": {"tls": {"mode": "Preferred"}}}, True),
        ):
            await world.reception.apply(from_manifest(world.port, type=kind, **spec))
            seen = await asyncio.to_thread(swaks, world.port, options=["--quit-after", "TLS"])
            assert ("Host did not advertise STARTTLS" in seen.text) is not offered, seen.text
            assert ("TLS started with cipher" in seen.text) is offered, seen.text


async def hello(world: Receiving, source: str) -> tuple[Client, str]:
    client = await Client.connect(world.port, source=source)
    return client, await client.reply() + await client.ask("EHLO client.example")


async def recipients(client: Client, count: int) -> list[str]:
    await client.ask("RSET")
    first = [await client.ask("MAIL FROM:<a@b.example>")]
    return first + [await client.ask(f"RCPT TO:<u{number}@here.example>") for number in range(count)]


async def test_policies_fall_back_field_by_field_on_the_wire(tmp_path: Path) -> None:
    async with receiving(tmp_path) as world:
        await world.reception.apply(from_manifest(world.port, **LIMITS))
        taken = "250 2.1.5 Recipient ok\r\n"
        # TLS mode of its own or the default's; size and banner as well.
        small, said = await hello(world, "127.0.0.21")
        assert "common words" in said
        assert "SIZE 1000" in said
        assert (await small.ask("MAIL FROM:<>")).startswith("530 5.7.0")
        wide, said = await hello(world, "127.0.0.22")
        assert "SIZE 2000" in said
        assert "STARTTLS" in said
        assert [one[:3] for one in await recipients(wide, 5)] == ["250"] * 5 + ["452"]
        assert (await wide.ask("MAIL FROM:<> SIZE=2001")).startswith(("503", "552"))
        await wide.ask("RSET")
        assert (await wide.ask("MAIL FROM:<> SIZE=2001")).startswith("552 5.3.4")
        # Messages per connection, recipients per hour, recipients per message.
        many, said = await hello(world, "127.0.0.23")
        assert "STARTTLS" not in said
        assert (await recipients(many, 3))[1:] == [taken, taken, "452 4.5.3 Too many recipients\r\n"]
        assert (await recipients(many, 1))[1].startswith("452 4.7.1 Too many recipients from this host")
        crowd, said = await hello(world, "127.0.0.24")
        assert "own words" in said
        for _ in range(2):
            assert (await crowd.send(b"x\r\n")).startswith("250 2.0.0 Ok: queued")
        assert (await crowd.ask("MAIL FROM:<>")).startswith("421 4.7.0 Too many messages")
        more = [await Client.connect(world.port, source="127.0.0.24") for _ in range(4)]
        assert sorted([(await one.reply())[:3] for one in more]) == ["220", "220", "220", "421"]
        both = [await Client.connect(world.port, source="127.0.0.30") for _ in range(3)]
        assert sorted([(await one.reply())[:3] for one in both]) == ["220", "220", "421"]
        for one in (small, wide, many, crowd, *more, *both):
            await one.close()
