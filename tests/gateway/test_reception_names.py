"""Host access by name: against a name server of the test's own."""

import asyncio
import ipaddress
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.message
import dns.rdatatype
import dns.reversename
import dns.rrset
import pytest

from letterlock_api.snapshot import AccessGroup
from letterlock_gateway.receive import hosts, sockets
from letterlock_gateway.receive.hosts import Hosts
from letterlock_gateway.receive.sockets import Endpoint
from tests.gateway.receiving import Client, listener, receiving, running_set

# Each address has a reverse name of its choice; only some of these lead back to it.
REVERSE = {
    "127.0.0.2": ["mail.partner.example."],
    "127.0.0.3": ["mail.partner.example."],
    "127.0.0.4": ["liar.example.", "relay.trusted.example."],
    "::1": ["six.partner.example."],
}
FORWARD = {
    "mail.partner.example.": ["127.0.0.2"],
    "liar.example.": ["192.0.2.1"],
    "relay.trusted.example.": ["192.0.2.2", "127.0.0.4"],
    "six.partner.example.": ["::1"],
}


class NameServer(asyncio.DatagramProtocol):
    def __init__(self, *, silent: bool) -> None:
        self.silent = silent
        self.asked = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        if self.silent:
            return
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = str(question.name), dns.rdatatype.to_text(question.rdtype)
        if kind == "PTR":
            values = REVERSE.get(str(dns.reversename.to_address(question.name)), [])
        else:
            version = 4 if kind == "A" else 6
            values = [one for one in FORWARD.get(name, []) if ipaddress.ip_address(one).version == version]
        reply = dns.message.make_response(query)
        if values:
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *values))
        self.transport.sendto(reply.to_wire(), addr)


@asynccontextmanager
async def name_server(*, silent: bool = False) -> AsyncGenerator[tuple[NameServer, str]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: NameServer(silent=silent), local_addr=("127.0.0.1", 0)
    )
    yield server, f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    transport.close()


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("127.0.0.2", ["mail.partner.example"]),
        ("127.0.0.3", []),
        ("127.0.0.4", ["relay.trusted.example"]),
        ("127.0.0.5", []),
        ("::1", ["six.partner.example"]),
    ],
    ids=["leads back", "somebody else's name", "only the true one of two", "no name", "IPv6"],
)
async def test_only_names_that_lead_back_count(address: str, names: list[str]):
    async with name_server() as (_, resolver):
        assert await Hosts([resolver]).names_of(ipaddress.ip_address(address)) == names


async def test_groups_by_name(tmp_path: Path):
    groups = [
        AccessGroup(name="partner", senders=["mail.partner.example", ".trusted.example"], policy="relay"),
        AccessGroup(name="rest", senders=["ALL"], policy="default"),
    ]
    async with name_server() as (_, resolver), receiving(tmp_path) as world:
        one = listener(world.port, groups=groups, policies=[{"name": "relay", "behavior": "Relay"}])
        await world.reception.apply(running_set(one, resolvers=[resolver]))
        for source, code in (("127.0.0.2", "250"), ("127.0.0.3", "550"), ("127.0.0.4", "250")):
            client = await Client.connect(world.port, source=source)
            client.writer.write(b"EHLO early\r\n")  # before the greeting, while the names are looked up
            assert (await client.reply()).startswith("220")
            assert (await client.reply()).startswith("250")
            assert (await client.send(b"x\r\n", to="u@elsewhere.example")).startswith(code)
            await client.close()
        assert "address 127.0.0.2 reverse dns host mail.partner.example verified yes" in world.log
        assert "address 127.0.0.3 reverse dns host unknown verified no" in world.log
        assert "RELAY SG partner match .trusted.example" in world.log
        bodies = [await world.spool.body(queued.mid) for queued in await world.stored()]
        assert b"(mail.partner.example [127.0.0.2])" in bodies[0]


async def test_a_silent_name_server_delays_only_those_whose_name_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hosts, "_SECONDS", 8.0)
    groups = [
        AccessGroup(name="known", senders=["127.0.0.9"], policy="default"),
        AccessGroup(name="partner", senders=["mail.partner.example"], policy="relay"),
        AccessGroup(name="rest", senders=["ALL"], policy="default"),
    ]
    async with name_server(silent=True) as (server, resolver), receiving(tmp_path) as world:
        one = listener(world.port, groups=groups, policies=[{"name": "relay", "behavior": "Relay"}])
        await world.reception.apply(running_set(one, resolvers=[resolver]))
        waiting = await Client.connect(world.port, source="127.0.0.2")
        known = await Client.connect(world.port, source="127.0.0.9")
        assert (await known.reply()).startswith("220")
        assert (await known.send(b"x\r\n")).startswith("250")
        assert server.asked >= 1
        assert "ACCEPT SG rest" not in world.log
        assert (await waiting.reply()).startswith("220")
        assert "ACCEPT SG rest match ALL" in world.log
        for client in (waiting, known):
            await client.close()


async def test_no_name_is_looked_up_where_none_is_written(tmp_path: Path):
    async with name_server() as (server, resolver), receiving(tmp_path) as world:
        await world.reception.apply(running_set(listener(world.port), resolvers=[resolver]))
        client = await Client.connect(world.port, source="127.0.0.2")
        await client.reply()
        await client.close()
        assert server.asked == 0


def test_a_wildcard_means_both_families_with_a_socket_each():
    found = sockets.endpoints("", 25)
    assert found[0] == Endpoint("0.0.0.0", 25)
    assert found[1:] == ([Endpoint("::", 25)] if sockets.has_ipv6() else [])
    assert sockets.endpoints("2001:DB8::1", 25) == [Endpoint("2001:db8::1", 25)]
    assert str(Endpoint("2001:db8::1", 25)) == "[2001:db8::1]:25"
    with pytest.raises(ValueError, match="address"):
        sockets.endpoints("mail.example", 25)


@pytest.mark.skipif(not sockets.has_ipv6(), reason="no IPv6 on this machine")
def test_both_families_can_be_bound_at_the_same_port():
    with sockets.bind(Endpoint("0.0.0.0", 0)) as first:
        sockets.bind(Endpoint("::", first.getsockname()[1])).close()
