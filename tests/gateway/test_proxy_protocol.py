"""The PROXY protocol: a real haproxy in front of a listener, and everything that may come instead of a header (L10)."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from letterlock_api.snapshot import AccessGroup
from letterlock_gateway.receive import times
from tests.gateway.receiving import Client, Receiving, listener, receiving, running_set, trusting
from tests.harness.certificates import Authority
from tests.harness.haproxy import Haproxy
from tests.harness.swaks import swaks

AUTHORITY: Final = Authority()
PAIR: Final = AUTHORITY.issue("mx.here.example")
BALANCER: Final = "127.0.0.1"
V2: Final = b"\r\n\r\n\0\r\nQUIT\n"
# The balancer's own address would relay, if it counted.
GROUPS: Final = [
    AccessGroup(name="inside", senders=["127.0.0.7", "::1", BALANCER], policy="relay"),
    AccessGroup(name="rest", senders=["ALL"], policy="default"),
]
BOTH: Final = {"v1": "send-proxy", "v2": "send-proxy-v2", "ssl": "send-proxy-v2-ssl-cn"}


@asynccontextmanager
async def balanced(directory: Path, **fields: Any) -> AsyncGenerator[Receiving]:
    async with receiving(directory) as world:
        given: dict[str, Any] = {
            "policy": {"tls_mode": "Preferred"},
            "groups": GROUPS,
            "policies": [{"name": "relay", "behavior": "Relay", "tls_mode": "Preferred"}],
            "proxy_from": [BALANCER],
        }
        one = listener(world.port, certificates=[PAIR], **given | fields)
        await world.reception.apply(running_set(one, certificates=[PAIR]))
        yield world


async def logged(world: Receiving, words: str, times_: int = 1) -> None:
    async with asyncio.timeout(60):
        while world.log.count(words) < times_:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("version", BOTH)
@pytest.mark.parametrize("protocol", ["SMTP", "SMTPS"])
async def test_host_access_sees_the_client_behind_haproxy(
    tmp_path: Path, version: str, protocol: str
) -> None:
    async with balanced(tmp_path, protocol=protocol) as world:
        with Haproxy(world.port, BOTH) as haproxy:

            def send(source: str) -> str:
                how = ["--tls-on-connect"] if protocol == "SMTPS" else ["--tls"]
                return swaks(
                    haproxy.port(version),
                    to="u@elsewhere.example",
                    data=b"Subject: x\n\nx\n",
                    tls=False,
                    options=["--local-interface", source, *how],
                    directory=tmp_path,
                ).text

            assert "250 2.0.0 Ok: queued" in await asyncio.to_thread(send, "127.0.0.7")
            assert "550 5.7.1" in await asyncio.to_thread(send, "127.0.0.8")
            assert "550 5.7.1" in await asyncio.to_thread(send, "127.0.0.2")
            tls = trusting(AUTHORITY.pem) if protocol == "SMTPS" else None
            name = "mx.here.example" if tls else None
            six = await asyncio.open_connection("::1", haproxy.port(version), ssl=tls, server_hostname=name)
            client = Client(*six)
            assert (await client.reply()).startswith("220")
            assert (await client.send(b"x\r\n", to="u@elsewhere.example")).startswith("250")
            await client.close()
        bodies = [await world.spool.body(one.mid) for one in await world.stored()]
        assert b"([127.0.0.7])" in bodies[0]
        assert b"([IPv6:::1])" in bodies[1]
        for address in ("127.0.0.7", "127.0.0.8", "127.0.0.2", "::1"):
            assert f"interface public (127.0.0.1) address {address}" in world.log


async def test_limits_per_host_count_the_client_and_not_the_balancer(tmp_path: Path) -> None:
    async with balanced(tmp_path, policy={"max_connections_per_host": 1}) as world:
        with Haproxy(world.port, {"v2": "send-proxy-v2"}) as haproxy:
            clients = [
                await Client.connect(haproxy.port("v2"), source=f"127.0.0.{n}") for n in (21, 22, 22, 23)
            ]
            codes = sorted([(await one.reply())[:3] for one in clients])
            assert codes == ["220", "220", "220", "421"]
            for one in clients:
                await one.close()


async def test_a_balancer_that_speaks_no_proxy_protocol_is_refused(tmp_path: Path) -> None:
    async with balanced(tmp_path) as world:
        with Haproxy(world.port, {"plain": ""}) as haproxy:
            client = await Client.connect(haproxy.port("plain"), source="127.0.0.7")
            client.writer.write(b"EHLO x\r\nMAIL FROM:<>\r\n")
            with contextlib.suppress(ConnectionError):
                assert await client.reader.read() == b""
            await client.close()
            await logged(world, "Connection to public closed: no PROXY header")
        assert "New SMTP" not in world.log


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_balancer_that_is_not_listed_is_refused(tmp_path: Path, version: str) -> None:
    """It is a client as any other; its header is no command, and its word for the client's address counts nothing."""
    async with balanced(tmp_path) as world:
        with Haproxy(world.port, BOTH, source="127.0.0.66") as haproxy:
            client = await Client.connect(haproxy.port(version), source="127.0.0.7")
            with contextlib.suppress(ConnectionError):
                assert (await client.reply()).startswith("220")
                assert (await client.reply())[:3] in ("500", "503")
                assert not (await client.send(b"x\r\n", to="u@elsewhere.example")).startswith("250")
            await client.close()
        assert "address 127.0.0.66" in world.log
        assert "address 127.0.0.7" not in world.log
        assert await world.stored() == []


@pytest.mark.parametrize("protocol", ["SMTP", "SMTPS"])
async def test_haproxys_own_checks_find_the_listener_up_and_may_send_no_mail(
    tmp_path: Path, protocol: str
) -> None:
    """Their header says LOCAL: nobody stands behind them, and the balancer's own address relays nothing."""
    tls = " check-ssl verify none" if protocol == "SMTPS" else ""
    options = {
        "v1": f"send-proxy check inter 100ms{tls}",
        "v2": f"send-proxy-v2 check inter 100ms{tls}",
    }
    async with balanced(tmp_path, protocol=protocol) as world:
        with Haproxy(world.port, options, more="option smtpchk EHLO balancer.example") as haproxy:
            await logged(world, "ACCEPT SG CHECK match the balancer itself", 8)
            states = await asyncio.to_thread(haproxy.states)
            assert {state.partition(" ")[0] for state in states.values()} == {"UP"}, (states, haproxy.log)


def v2_header(kind: int, family: int, body: bytes) -> bytes:
    return V2 + struct.pack("!BBH", kind, family, len(body)) + body


TCP4: Final = socket.inet_aton("127.0.0.7") + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 4711, 25)
NOBODY: Final = {
    "UNKNOWN": b"PROXY UNKNOWN\r\n",
    "UNKNOWN with addresses": b"PROXY UNKNOWN 127.0.0.7 127.0.0.1 4711 25\r\n",
    "LOCAL": v2_header(0x20, 0x00, b""),
    "LOCAL with an address": v2_header(0x20, 0x11, TCP4),
    "a family that is none": v2_header(0x21, 0x00, b""),
    "a client on a UNIX socket": v2_header(0x21, 0x31, b"x" * 216),
}


@pytest.mark.parametrize("protocol", ["SMTP", "SMTPS"])
@pytest.mark.parametrize("what", NOBODY)
async def test_who_has_no_address_is_greeted_and_may_send_no_mail(
    tmp_path: Path, what: str, protocol: str
) -> None:
    async with balanced(tmp_path, protocol=protocol) as world:
        client = await Client.connect(world.port)
        client.writer.write(NOBODY[what])
        if protocol == "SMTPS":
            await client.writer.start_tls(trusting(AUTHORITY.pem), server_hostname="mx.here.example")
        assert (await client.reply()).startswith("220")
        for to in ("u@elsewhere.example", "u@here.example"):
            assert (await client.send(b"x\r\n", to=to)).startswith("550 5.7.1 No mail is taken")
        assert (await client.ask("RSET")).startswith("250")
        assert (await client.ask("QUIT")).startswith("221")
        await client.close()
        assert "address 127.0.0.1" in world.log
        assert await world.stored() == []


BAD: Final = {
    "no header": b"EHLO x\r\n",
    "a header in small letters": b"proxy TCP4 127.0.0.7 127.0.0.1 4711 25\r\n",
    "too few words": b"PROXY TCP4 127.0.0.7 127.0.0.1 4711\r\n",
    "too many words": b"PROXY TCP4 127.0.0.7 127.0.0.1 4711 25 x\r\n",
    "an address of the other family": b"PROXY TCP4 ::1 ::1 4711 25\r\n",
    "no address": b"PROXY TCP4 somebody 127.0.0.1 4711 25\r\n",
    "no port": b"PROXY TCP4 127.0.0.7 127.0.0.1 x 25\r\n",
    "a port too high": b"PROXY TCP4 127.0.0.7 127.0.0.1 65536 25\r\n",
    "two spaces": b"PROXY  TCP4 127.0.0.7 127.0.0.1 4711 25\r\n",
    "a line that never ends": b"PROXY TCP4 " + b"1" * 100,
    "a line too long": b"PROXY UNKNOWN " + b"x" * 100 + b"\r\n",
    "another version": V2 + b"\x31\x11\x00\x0c" + TCP4,
    "another command": V2 + b"\x2f\x11\x00\x0c" + TCP4,
    "addresses cut short": v2_header(0x21, 0x11, TCP4[:-1]),
    "IPv6 in the room of IPv4": v2_header(0x21, 0x21, TCP4),
    "UDP": v2_header(0x21, 0x12, TCP4),
    "additions beyond measure": V2 + b"\x21\x11\xff\xff" + TCP4,
}


@pytest.mark.parametrize("protocol", ["SMTP", "SMTPS"])
async def test_what_is_no_header_ends_the_connection_at_once(tmp_path: Path, protocol: str) -> None:
    async with balanced(tmp_path, protocol=protocol) as world:
        for number, (what, octets) in enumerate(BAD.items()):
            client = await Client.connect(world.port)
            client.writer.write(octets)
            with contextlib.suppress(ConnectionError):
                assert await client.reader.read() == b"", what
            await client.close()
            await logged(world, "Connection to public closed: ", number + 1)
        assert "New SMTP" not in world.log
        assert world.reception.limits.connections("public") == 0


@pytest.mark.parametrize("protocol", ["SMTP", "SMTPS"])
@pytest.mark.parametrize("half", [b"", b"PROXY TCP4 127.0.0.7", V2, v2_header(0x21, 0x11, TCP4)[:20]])
async def test_half_a_header_is_waited_for_only_so_long(
    tmp_path: Path, half: bytes, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(times, "SHORT", 0.2)
    async with balanced(tmp_path, protocol=protocol) as world:
        client = await Client.connect(world.port)
        client.writer.write(half)
        with contextlib.suppress(ConnectionError):
            assert await client.reader.read() == b""
        await client.close()
        assert "New SMTP" not in world.log


@pytest.mark.parametrize(
    "header", [b"PROXY TCP4 127.0.0.7 127.0.0.1 4711 25\r\n", v2_header(0x21, 0x11, TCP4)]
)
async def test_a_header_may_come_octet_by_octet_and_with_the_first_command(
    tmp_path: Path, header: bytes
) -> None:
    async with balanced(tmp_path) as world:
        slow = await Client.connect(world.port)
        for octet in header:
            slow.writer.write(bytes([octet]))
            await slow.writer.drain()
            await asyncio.sleep(0)
        assert (await slow.reply()).startswith("220")
        quick = await Client.connect(world.port)
        assert (await quick.raw(header + b"EHLO x\r\n")).startswith("220")
        assert (await quick.reply()).startswith("250")
        for one in (slow, quick):
            assert (await one.send(b"x\r\n", to="u@elsewhere.example")).startswith("250")
            await one.close()
        assert world.log.count("RELAY SG inside match 127.0.0.7") == 2


@pytest.mark.parametrize(
    ("second", "policy", "greeted"),
    [
        ("2a00:1450:4001:1:ffff::9", "default", False),
        ("2a00:1450:4001:2::1", "default", True),
        ("2a00:1450:4001:1:ffff::9", "relay", True),
    ],
    ids=["of the same subscriber", "of another one", "of the same network inside"],
)
async def test_a_subscribers_ipv6_addresses_are_one_host(
    tmp_path: Path, second: str, policy: str, *, greeted: bool
) -> None:
    """Whoever has a /64 has an address for each connection; whom we relay for, pods say, may share one."""
    fields: dict[str, Any] = {
        "groups": [AccessGroup(name="all", senders=["ALL"], policy=policy)],
        "policy": {"max_connections_per_host": 1, "max_recipients_per_hour": 1},
        "policies": [{"name": "relay", "behavior": "Relay", "max_connections_per_host": 1}],
    }
    async with balanced(tmp_path, **fields) as world:
        one, other = [await Client.connect(world.port) for _ in range(2)]
        first = await one.ask("PROXY TCP6 2a00:1450:4001:1::1 ::1 40000 25")
        assert first.startswith("220")
        answer = await other.ask(f"PROXY TCP6 {second} ::1 40000 25")
        assert answer[:9] == ("220 mx.he" if greeted else "421 4.7.0")
        assert (await one.send(b"Subject: x\r\n\r\n")).startswith("250")
        await one.close()
        await other.close()
        await logged(world, "close", 2)
        third = await Client.connect(world.port)
        assert (await third.ask(f"PROXY TCP6 {second} ::1 40000 25")).startswith("220"), (
            "places were given back"
        )
        answer = await third.send(b"Subject: x\r\n\r\n")
        assert answer.startswith("250" if greeted else "452 4.7.1"), "recipients per hour go by the same"
        await third.close()
