"""Host access by name with real name servers, nsd behind unbound: while they answer, and while one of them is dead."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from letterlock_api.snapshot import AccessGroup
from letterlock_gateway.receive import hosts
from tests.gateway.receiving import Client, Receiving, listener, receiving, running_set
from tests.harness.certificates import Authority
from tests.harness.nameservers import NameServers, reverse

AUTHORITY = Authority()
PAIR = AUTHORITY.issue("mx.here.example")
GROUPS = [
    AccessGroup(name="known", senders=["127.0.0.9"], policy="default"),
    AccessGroup(name="partner", senders=["mail.partner.example", ".trusted.example"], policy="relay"),
    AccessGroup(name="rest", senders=["ALL"], policy="default"),
]


@pytest.fixture
def servers() -> Iterator[NameServers]:
    zones = {
        "127.in-addr.arpa": [
            *reverse("127.0.0.2", "mail.partner.example"),
            *reverse("127.0.0.3", "mail.partner.example"),
            *reverse("127.0.0.4", "liar.example", "mx.sub.trusted.example"),
            *(
                line
                for last in range(100, 200)
                for line in reverse(f"127.0.1.{last}", "mail.partner.example")
            ),
        ],
        "partner.example": [
            "mail IN A 127.0.0.2",
            *(f"mail IN A 127.0.1.{last}" for last in range(100, 200)),
        ],
        "trusted.example": ["mx.sub IN A 192.0.2.2", "mx.sub IN A 127.0.0.4"],
    }
    with NameServers(zones, failing=["liar.example"]) as made:
        yield made


async def start(world: Receiving, servers: NameServers, **fields: object) -> None:
    one = listener(
        world.port,
        groups=GROUPS,
        policy={"max_connections_per_host": 1000},
        policies=[{"name": "relay", "behavior": "Relay"}],
        **fields,  # pyright: ignore[reportArgumentType]
    )
    await world.reception.apply(running_set(one, certificates=[PAIR], resolvers=[servers.address]))


async def test_names_count_that_lead_back(tmp_path: Path, servers: NameServers):
    async with receiving(tmp_path) as world:
        await start(world, servers)
        for source, code in (
            ("127.0.0.2", "250"),
            ("127.0.0.3", "550"),
            ("127.0.0.4", "250"),
            ("127.0.0.5", "550"),
        ):
            client = await Client.connect(world.port, source=source)
            assert (await client.reply()).startswith("220")
            assert (await client.send(b"x\r\n", to="u@elsewhere.example")).startswith(code), source
            await client.close()
        assert "address 127.0.0.2 reverse dns host mail.partner.example verified yes" in world.log
        assert "address 127.0.0.3 reverse dns host unknown verified no" in world.log
        assert "RELAY SG partner match .trusted.example" in world.log


@pytest.mark.parametrize("dead", ["nsd", "unbound"])
async def test_a_dead_name_server_stalls_nobody_else_and_gives_nobody_a_name(
    tmp_path: Path, servers: NameServers, dead: Literal["nsd", "unbound"], monkeypatch: pytest.MonkeyPatch
):
    if (
        dead == "unbound"
    ):  # so long that nobody is done before the others are; unbound itself gives up when it likes
        monkeypatch.setattr(hosts, "_SECONDS", 16.0)
    async with receiving(tmp_path) as world:
        await start(world, servers)
        servers.pause(dead)
        waiting = [await Client.connect(world.port, source=f"127.0.1.{last}") for last in range(100, 200)]
        first = [asyncio.ensure_future(one.reply()) for one in waiting]
        for _ in range(3):
            known = await Client.connect(world.port, source="127.0.0.9")
            assert (await known.reply()).startswith("220")
            assert (await known.send(b"x\r\n")).startswith("250")
            await known.close()
        assert dead == "nsd" or not any(one.done() for one in first)  # nobody had to wait for them
        # They are served as clients without a name: mail for our own recipients, no relaying.
        assert {greeting[:3] for greeting in await asyncio.gather(*first)} == {"220"}
        assert (await waiting[0].send(b"x\r\n")).startswith("250")
        assert (await waiting[1].send(b"x\r\n", to="u@elsewhere.example")).startswith("550")
        assert world.log.count("ACCEPT SG rest match ALL") == 100
        for one in waiting:
            await one.close()
        servers.resume(dead)
        again = await Client.connect(world.port, source="127.0.0.2")
        assert (await again.reply()).startswith("220")
        assert (await again.send(b"x\r\n", to="u@elsewhere.example")).startswith("250")
        await again.close()


@pytest.mark.parametrize("protocol", ["SMTP", "SMTPS"])
async def test_those_who_wait_for_their_names_are_no_more_than_the_listener_takes(
    tmp_path: Path, servers: NameServers, protocol: str
):
    async with receiving(tmp_path) as world:
        await start(world, servers, max_concurrency=10, protocol=protocol, certificates=[PAIR])
        servers.pause("unbound")
        clients = [await Client.connect(world.port, source=f"127.0.1.{last}") for last in range(100, 130)]
        async with asyncio.timeout(60):
            while world.log.count("refused: Too many connections") < 20:
                await asyncio.sleep(0.01)
        for one in clients:
            await one.close()
        async with asyncio.timeout(60):
            while world.reception._connections or world.reception._tasks:  # pyright: ignore[reportPrivateUsage]
                await asyncio.sleep(0.01)
        assert world.log.count("refused: Too many connections") == 20
        servers.resume("unbound")
        if protocol == "SMTP":
            client = await Client.connect(world.port, source="127.0.0.2")
            assert (await client.reply()).startswith("220")  # there is room again
            await client.close()
