"""Reception over real sockets, on the event loop that workers use."""

# pyright: reportPrivateUsage=false

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from letterlock_api.snapshot import AccessGroup
from letterlock_gateway.receive import terms, times
from letterlock_gateway.running import RunningListener, RunningSet
from letterlock_gateway.spool import SpoolFailed
from tests.gateway.receiving import Client, Receiving, listener, receiving, running_set, trusting
from tests.harness import programs
from tests.harness.certificates import Authority
from tests.harness.ports import free_port
from tests.harness.swaks import swaks

AUTHORITY = Authority()
PAIR = AUTHORITY.issue("mx.here.example")
TLS = trusting(AUTHORITY.pem)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Receiving]:
    async with receiving(tmp_path) as made:
        yield made


async def start(world: Receiving, *, tls: str = "Preferred", **fields: object) -> None:
    policy = fields.pop("policy", {})
    assert isinstance(policy, dict)
    one = listener(
        world.port,
        certificates=[PAIR],
        policy={"tls_mode": tls, **policy},  # pyright: ignore[reportUnknownArgumentType]
        **fields,  # pyright: ignore[reportArgumentType]
    )
    [state] = await world.reception.apply(running_set(one, certificates=[PAIR], ca=AUTHORITY.pem))
    assert state.listening, state.problem


async def until(observe: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not observe():
            await asyncio.sleep(0.01)


async def test_a_message_over_starttls_lies_in_the_spool_with_its_trace(world: Receiving):
    await start(world)
    client = await Client.connect(world.port)
    assert (await client.reply()).startswith("220 mx.here.example ")
    await client.ask("EHLO client.example")
    await client.tls(TLS)
    answer = await client.send(b"Subject: x\r\n\r\n..\r\nbody\r\n")
    assert answer.startswith("250 2.0.0 Ok: queued as ")
    assert await client.ask("QUIT") == "221 2.0.0 Goodbye\r\n"
    assert await client.reply() == ""
    await client.close()
    [one] = await world.stored()
    assert f"queued as {one.mid}\r\n" in answer
    assert (one.sender, one.address, one.received_protocol) == ("a@b.example", "u@here.example", "TLSv1.3")
    head, _, rest = (await world.spool.body(one.mid)).partition(b"Subject")
    assert rest == b": x\r\n\r\n.\r\nbody\r\n"
    assert head.startswith(b"Received: from client.example ([127.0.0.1])\r\n\t(using TLSv1.3 with cipher ")
    assert head.endswith(
        f"\r\n\tby mx.here.example with ESMTPS id {one.mid}\r\n\tfor <u@here.example>;\r\n"
        f"\tTue, 25 Nov 2025 03:23:53 +0000\r\n".encode()
    )
    await until(lambda: "close" in world.log)
    log = [line.partition("Info: ")[2] for line in world.log.splitlines()]
    assert log[0].startswith("Listener public listens on 127.0.0.1:")
    assert log[1:] == [
        "New SMTP ICID 1001 interface public (127.0.0.1) address 127.0.0.1",
        "ICID 1001 ACCEPT SG all match ALL",
        "ICID 1001 TLS success protocol TLSv1.3 cipher TLS_AES_256_GCM_SHA384",
        f"Start MID {one.mid} ICID 1001",
        f"MID {one.mid} ICID 1001 From: <a@b.example>",
        f"MID {one.mid} ICID 1001 RID {one.rid} To: <u@here.example>",
        f"MID {one.mid} queued for delivery",
        "ICID 1001 close",
    ]


@pytest.mark.parametrize("size", [0, 70_000, 3_000_000])
async def test_messages_of_all_sizes(world: Receiving, size: int):
    await start(world)
    client = await Client.connect(world.port)
    await client.reply()
    await client.ask("EHLO x")
    await client.tls(TLS)
    body = (b"x" * 998 + b"\r\n") * (size // 1000)
    assert (await client.send(body)).startswith("250")
    [one] = await world.stored()
    assert (await world.spool.body(one.mid)).endswith(body)
    assert world.reception.limits.buffered == 0
    await client.close()


async def test_required_takes_nothing_in_clear_and_says_so_in_the_log(world: Receiving):
    await start(world, tls="Required")
    client = await Client.connect(world.port)
    await client.reply()
    assert (await client.ask("HELO x")).startswith("530 5.7.0 Must issue a STARTTLS command first")
    assert (await client.ask("MAIL FROM:<a@b.example>")).startswith("530 5.7.0")
    assert (await client.ask("EHLO x")).startswith("250-")
    assert (await client.ask("NOOP")).startswith("250")
    assert (await client.ask("QUIT")).startswith("221")
    await client.close()
    await until(lambda: "close" in world.log)
    # Twice at a command, once at the end of a connection without an accepted recipient (L6).
    assert world.log.count("ICID 1001 TLS was required but remote host did not initiate it") == 3
    assert await world.stored() == []


@pytest.mark.parametrize("injected", [b"NOOP\r\n", b"EHLO evil\r\nMAIL FROM:<>\r\n", b"\x16\x03\x01"])
async def test_what_comes_with_starttls_in_clear_never_reaches_the_session_behind(
    world: Receiving, injected: bytes
):
    await start(world)
    client = await Client.connect(world.port)
    await client.reply()
    assert (await client.raw(b"STARTTLS\r\n" + injected)).startswith("554 5.5.0")
    assert await client.reply() == ""
    await client.close()


async def test_what_comes_in_clear_after_starttls_fails_the_handshake(world: Receiving):
    await start(world)
    client = await Client.connect(world.port)
    await client.reply()
    assert (await client.raw(b"STARTTLS\r\n")).startswith("220")
    client.writer.write(b"EHLO evil\r\nMAIL FROM:<a@b.example>\r\n")
    with contextlib.suppress(ConnectionError):
        assert b"250" not in await client.reader.read()
    await until(lambda: "TLS failed: " in world.log)
    await until(lambda: "ICID 1001 close" in world.log)
    assert world.reception.limits.connections("public") == 0
    await client.close()


async def test_a_client_that_leaves_in_the_handshake_is_forgotten(world: Receiving):
    await start(world)
    client = await Client.connect(world.port)
    await client.reply()
    assert (await client.raw(b"STARTTLS\r\n")).startswith("220")
    await client.close()
    await until(lambda: "TLS failed: " in world.log and "ICID 1001 close" in world.log)
    assert world.reception.limits.connections("public") == 0


async def test_a_client_that_does_not_trust_us_is_a_failed_handshake_in_the_log(world: Receiving):
    await start(world)
    client = await Client.connect(world.port)
    await client.reply()
    with pytest.raises(ssl.SSLCertVerificationError):
        await client.tls(ssl.create_default_context())
    await until(lambda: "ICID 1001 close" in world.log)
    await client.close()


async def test_smtps(world: Receiving):
    await start(world, protocol="SMTPS")
    client = await Client.connect(world.port, tls=_unnamed(TLS))
    assert (await client.reply()).startswith("220 mx.here.example")
    assert "STARTTLS" not in await client.ask("EHLO x")
    assert (await client.send(b"x\r\n")).startswith("250")
    await client.close()
    [one] = await world.stored()
    assert one.received_protocol == "TLSv1.3"


async def test_smtps_takes_no_clear_text_and_logs_the_failed_handshake(world: Receiving):
    await start(world, protocol="SMTPS")
    client = await Client.connect(world.port)
    client.writer.write(b"EHLO x\r\n")
    with contextlib.suppress(ConnectionError):
        assert b"250" not in await client.reader.read()
    await client.close()
    await until(lambda: "ICID 1001 close" in world.log)
    assert "ICID 1001 TLS failed: " in world.log
    gone = await Client.connect(world.port)
    await gone.close()
    await until(lambda: "ICID 2001 close" in world.log)
    assert world.reception.limits.connections("public") == 0


async def test_smtps_behind_a_balancer_with_a_policy_of_its_own(world: Receiving):
    groups = [
        AccessGroup(name="refused", senders=["192.0.2.9"], policy="refuse"),
        AccessGroup(name="rest", senders=["ALL"], policy="default"),
    ]
    await start(
        world,
        protocol="SMTPS",
        groups=groups,
        policies=[{"name": "refuse", "behavior": "TCPRefuse"}],
        proxy_from=["127.0.0.1"],
    )
    client = await Client.connect(world.port)
    client.writer.write(b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 465\r\n")
    await client.writer.start_tls(TLS, server_hostname="mx.here.example")
    assert (await client.reply()).startswith("220")
    assert "address 192.0.2.7" in world.log
    refused = await Client.connect(world.port)
    refused.writer.write(b"PROXY TCP4 192.0.2.9 127.0.0.1 4711 465\r\n")
    with contextlib.suppress(ConnectionError):
        assert await refused.reader.read() == b""
    bad = await Client.connect(world.port)
    bad.writer.write(b"\x16\x03\x01")
    with contextlib.suppress(ConnectionError):
        assert await bad.reader.read() == b""
    for one in (client, refused, bad):
        await one.close()


def _unnamed(context: ssl.SSLContext) -> ssl.SSLContext:
    context = trusting(AUTHORITY.pem)
    context.check_hostname = False
    return context


@pytest.mark.parametrize("tls", [True, False])
async def test_swaks(world: Receiving, tmp_path: Path, tls: bool):
    await start(world)
    data = b"Subject: from swaks\n\n.dot\n..dots\nend\n"
    seen = await asyncio.to_thread(
        swaks, world.port, to="u@here.example", data=data, tls=tls, directory=tmp_path
    )
    assert seen.accepted, seen.text
    [one] = await world.stored()
    assert (await world.spool.body(one.mid)).endswith(data.replace(b"\n", b"\r\n"))


async def test_host_access_decides_per_connection(world: Receiving):
    groups = [
        AccessGroup(name="refused", senders=["127.0.0.2"], policy="refuse"),
        AccessGroup(name="rejected", senders=["127.0.0.3"], policy="reject"),
        AccessGroup(name="partners", senders=["127.0.0.4"], policy="strict"),
        AccessGroup(name="relayed", senders=["127.0.0.5"], policy="relay"),
        AccessGroup(name="rest", senders=["ALL"], policy="default"),
    ]
    policies = [
        {"name": "refuse", "behavior": "TCPRefuse"},
        {"name": "reject", "behavior": "Reject", "reject_text": "Not you"},
        {"name": "strict", "behavior": "Accept", "tls_mode": "Required"},
        {"name": "relay", "behavior": "Relay"},
    ]
    await start(world, tls="No", groups=groups, policies=policies)
    refused = await Client.connect(world.port, source="127.0.0.2")
    with contextlib.suppress(ConnectionError):
        assert await refused.reader.read() == b""
    rejected = await Client.connect(world.port, source="127.0.0.3")
    assert await rejected.reply() == "554 mx.here.example Not you\r\n"
    strict = await Client.connect(world.port, source="127.0.0.4")
    await strict.reply()
    assert "STARTTLS" in await strict.ask("EHLO x")
    assert (await strict.ask("MAIL FROM:<>")).startswith("530")
    relayed = await Client.connect(world.port, source="127.0.0.5")
    await relayed.reply()
    assert (await relayed.send(b"x\r\n", to="u@elsewhere.example")).startswith("250")
    rest = await Client.connect(world.port)
    await rest.reply()
    assert "STARTTLS" not in await rest.ask("EHLO x")
    assert (await rest.send(b"x\r\n", to="u@elsewhere.example")).startswith("550 5.7.1")
    for one in (refused, rejected, strict, relayed, rest):
        await one.close()
    assert "ICID 1001 TCPREFUSE SG refused match 127.0.0.2" in world.log
    assert "ICID 2001 REJECT SG rejected match 127.0.0.3" in world.log
    assert "ICID 4001 RELAY SG relayed match 127.0.0.5" in world.log
    assert "ICID 5001 To: <u@elsewhere.example> rejected: Address rejected" in world.log


async def test_connection_limits(world: Receiving):
    await start(world, max_concurrency=3, policy={"max_connections_per_host": 2})
    clients = [await Client.connect(world.port) for _ in range(2)]
    for one in clients:
        assert (await one.reply()).startswith("220")
    third = await Client.connect(world.port)
    assert (await third.reply()).startswith("421 4.7.0 Too many connections from this host")
    await third.close()
    await until(lambda: world.reception.limits.connections("public") == 2)
    other = await Client.connect(world.port, source="127.0.0.2")
    assert (await other.reply()).startswith("220")
    fourth = await Client.connect(world.port, source="127.0.0.3")
    assert (await fourth.reply()).startswith("421 4.3.2 Too many connections")
    await fourth.close()
    await clients[0].close()
    await until(lambda: world.reception.limits.connections("public") == 2)
    again = await Client.connect(world.port)
    assert (await again.reply()).startswith("220")
    for one in (*clients, other, again):
        await one.close()
    await until(lambda: world.reception.limits.connections("public") == 0)


async def test_a_spool_that_fails_gives_451_and_the_session_goes_on(
    world: Receiving, monkeypatch: pytest.MonkeyPatch
):
    await start(world)

    async def fail(*_: object, **__: object) -> None:
        raise SpoolFailed("OperationalError: disk full")

    client = await Client.connect(world.port)
    await client.reply()
    with monkeypatch.context() as patch:
        patch.setattr(world.spool, "take", fail)
        assert await client.send(b"x\r\n") == "451 4.3.0 The message could not be stored, try again later\r\n"
    assert "disk full" in world.log
    assert (await client.send(b"x\r\n")).startswith("250")
    await client.close()


async def test_a_client_that_leaves_before_the_250_leaves_its_message(world: Receiving):
    await start(world)
    client = await Client.connect(world.port)
    await client.reply()
    for line in ("EHLO x", "MAIL FROM:<>", "RCPT TO:<u@here.example>", "DATA"):
        await client.ask(line)
    client.writer.write(b"x\r\n.\r\n")
    await client.writer.drain()
    client.writer.transport.abort()
    await until(lambda: world.spool.queue_length() == 1)
    await until(lambda: world.reception.limits.buffered == 0)


async def test_a_client_that_says_everything_at_once_and_shuts_its_side_is_answered(world: Receiving):
    await start(world)
    client = await Client.connect(world.port)
    await client.reply()
    await client.ask("EHLO x")
    await client.ask("MAIL FROM:<>")
    await client.ask("RCPT TO:<u@here.example>")
    await client.ask("DATA")
    client.writer.write(b"x\r\n.\r\n")
    client.writer.write_eof()
    assert (await client.reply()).startswith("250 2.0.0 Ok: queued")
    assert await client.reply() == ""
    await client.close()


async def test_idle_clients_are_let_go_with_421(world: Receiving, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(times, "IDLE", 0.0)
    await start(world)
    client = await Client.connect(world.port)
    await client.reply()
    client.writer.write(b"NO")  # half a command is no sign of life
    assert (await client.reply()).startswith("421 4.4.2")
    assert await client.reply() == ""
    await client.close()
    assert "ICID 1001 idle for too long" in world.log


async def test_closing_lets_a_message_end_and_the_idle_go(world: Receiving):
    await start(world)
    idle, busy = await Client.connect(world.port), await Client.connect(world.port)
    for one in (idle, busy):
        await one.reply()
    for line in ("EHLO x", "MAIL FROM:<>", "RCPT TO:<u@here.example>", "DATA"):
        await busy.ask(line)
    closing = asyncio.create_task(world.reception.close(20))
    assert (await idle.reply()).startswith("421 4.3.2")
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(world.port)
    assert (await busy.raw(b"x\r\n.\r\n")).startswith("250")
    assert (await busy.reply()).startswith("421 4.3.2")
    await closing
    assert world.spool.queue_length() == 1
    for one in (idle, busy):
        await one.close()


async def test_the_end_of_the_grace_cuts_what_is_still_under_way(world: Receiving):
    await start(world)
    client = await Client.connect(world.port)
    await client.reply()
    for line in ("EHLO x", "MAIL FROM:<>", "RCPT TO:<u@here.example>", "DATA"):
        await client.ask(line)
    await world.reception.close(0)
    assert (await client.reply()).startswith("421 4.3.2")
    await client.close()


async def test_a_new_set_is_for_new_connections(world: Receiving):
    await start(world, tls="No")
    before = await Client.connect(world.port)
    await before.reply()
    server_sockets = list(world.reception._open.values())
    await start(world, tls="Required")
    after = await Client.connect(world.port)
    await after.reply()
    assert "STARTTLS" not in await before.ask("EHLO x")
    assert "STARTTLS" in await after.ask("EHLO x")
    assert (await before.send(b"x\r\n")).startswith("250")
    assert list(world.reception._open.values()) == server_sockets  # the same socket all the time
    for one in (before, after):
        await one.close()


async def test_a_new_certificate_while_clients_send_fails_nobody(world: Receiving):
    await start(world)
    stop = asyncio.Event()
    sent = 0

    async def keep_sending() -> None:
        nonlocal sent
        while not stop.is_set():
            client = await Client.connect(world.port)
            await client.reply()
            await client.ask("EHLO x")
            await client.tls(TLS)
            assert (await client.send(b"x\r\n")).startswith("250")
            sent += 1
            await client.close()

    clients = [asyncio.create_task(keep_sending()) for _ in range(10)]
    await until(lambda: sent > 10)
    pair = AUTHORITY.issue("mx.here.example")
    one = listener(world.port, certificates=[pair], policy={"tls_mode": "Preferred"})
    await world.reception.apply(running_set(one, certificates=[pair], ca=AUTHORITY.pem))
    mark = sent
    await until(lambda: sent > mark + 30)
    stop.set()
    await asyncio.gather(*clients)
    last = await Client.connect(world.port)
    await last.reply()
    await last.tls(TLS)
    served = last.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    assert ssl.DER_cert_to_PEM_cert(served).encode() in pair
    await last.close()


async def test_a_listener_that_goes_away_closes_its_port_and_not_its_sessions(world: Receiving):
    await start(world)
    client = await Client.connect(world.port)
    await client.reply()
    assert await world.reception.apply(running_set()) == []
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(world.port)
    assert (await client.send(b"x\r\n")).startswith("250")
    await client.close()


async def test_ports_that_cannot_be_bound_are_named_and_harm_no_other(world: Receiving):
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        taken = foreign.getsockname()[1]
        states = await world.reception.apply(
            running_set(
                listener(taken, name="taken"),
                listener(world.port, name="good"),
                listener(world.port, name="double"),
                listener(free_port(), name="elsewhere", address="192.0.2.1"),
            )
        )
    told = {state.name: (state.listening, state.problem) for state in states}
    assert told["good"] == (True, None)
    assert told["taken"] == (False, f"cannot listen on 127.0.0.1:{taken}: another program listens there")
    assert told["double"] == (False, f"127.0.0.1:{world.port} is taken by listener good")
    assert told["elsewhere"][0] is False
    assert "this machine does not have that address" in (told["elsewhere"][1] or "")
    # Tried again, it works.
    [state] = await world.reception.apply(running_set(listener(taken, name="taken")))
    assert state.listening


async def test_a_port_can_change_hands_without_a_gap(world: Receiving):
    await world.reception.apply(running_set(listener(world.port, name="old")))
    opened = list(world.reception._open.values())
    await world.reception.apply(running_set(listener(world.port, name="new", tcp_queue=7)))
    assert list(world.reception._open.values()) == opened
    client = await Client.connect(world.port)
    await client.reply()
    assert "interface new" in world.log
    await client.close()


async def test_a_set_that_cannot_be_run_changes_no_listener(
    world: Receiving, monkeypatch: pytest.MonkeyPatch
):
    """The second listener of the new set fails, by a fault of ours: the first one stays as it was, too (L9)."""

    def both(banner: str) -> RunningSet:
        second = listener(free_port(), name="second", policy={"banner": banner})
        return running_set(listener(world.port, policy={"banner": banner}), second)

    await world.reception.apply(both("old words"))
    compiled = terms.compile_listener

    def failing(running: RunningSet, one: RunningListener) -> terms.ListenerTerms:
        if one.listener.name == "second":
            raise RuntimeError("a fault of ours")
        return compiled(running, one)

    monkeypatch.setattr(terms, "compile_listener", failing)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        await world.reception.apply(both("new words"))
    client = await Client.connect(world.port)
    assert "old words" in await client.reply()
    await client.close()


@pytest.mark.parametrize("protocol", ["SMTP", "SMTPS"])
async def test_the_kernel_keeps_as_many_connections_waiting_as_the_tcp_queue_has(
    world: Receiving, protocol: str
):
    """What `ss` shows as the send queue of a socket that listens is its backlog."""
    for queue in (7, 9):
        one = listener(world.port, certificates=[PAIR], protocol=protocol, tcp_queue=queue)
        await world.reception.apply(running_set(one, certificates=[PAIR]))
        command = [programs.require("ss"), "-Hltn", f"sport = :{world.port}"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
        assert {line.split()[2] for line in shown.splitlines()} == {str(queue)}


async def test_workers_share_a_port(world: Receiving, tmp_path: Path):
    await start(world)
    async with receiving(tmp_path / "second", world.port) as second:
        await start(second)
        for _ in range(40):
            client = await Client.connect(world.port)
            await client.reply()
            await client.close()
    assert "New SMTP" in world.log
    assert "New SMTP" in second.log


async def test_client_certificates(world: Receiving):
    other = Authority()
    names = {"client_certificate": "Required", "client_names": ["partner.example"]}
    await start(world, policy=names)

    async def outcome(pair: bytes | None) -> str:
        context = trusting(AUTHORITY.pem)
        # In TLS 1.3 a client learns of the refusal only with its first read.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        if pair is not None:
            path = world.spool._bodies._directory.parent / "client.pem"  # pyright: ignore[reportPrivateUsage]
            path.write_bytes(pair)
            context.load_cert_chain(path)
        client = await Client.connect(world.port)
        try:
            await client.reply()
            await client.tls(context)
            return await client.send(b"Subject: x\r\n\r\nx\r\n")
        except (OSError, ssl.SSLError):
            return "handshake failed"
        finally:
            await client.close()

    assert (await outcome(AUTHORITY.issue("partner.example"))).startswith("250")
    assert (await outcome(AUTHORITY.issue("stranger.example"))).startswith("554 5.7.0")
    assert await outcome(other.issue("partner.example")) == "handshake failed"
    assert await outcome(None) == "handshake failed"
    assert (
        "ICID 2001 TLS failed: names of the client certificate (stranger.example) are not listed" in world.log
    )
    assert "ICID 3001 TLS failed: " in world.log
    [one] = await world.stored()
    assert b"(client certificate verified: " in await world.spool.body(one.mid)


async def test_the_proxy_protocol_shows_the_real_client(world: Receiving):
    groups = [
        AccessGroup(name="partner", senders=["192.0.2.7"], policy="default"),
        AccessGroup(name="rest", senders=["ALL"], policy="reject"),
    ]
    await start(
        world,
        groups=groups,
        policies=[{"name": "reject", "behavior": "Reject"}],
        proxy_from=["127.0.0.1/32"],
    )
    balanced = await Client.connect(world.port)
    assert (await balanced.raw(b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n")).startswith("220")
    assert (await balanced.send(b"x\r\n")).startswith("250")
    bad = await Client.connect(world.port)
    assert await bad.raw(b"EHLO x\r\n") == ""
    direct = await Client.connect(world.port, source="127.0.0.2")
    assert (await direct.reply()).startswith("554")
    assert (await direct.raw(b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n")).startswith("503")
    for one in (balanced, bad, direct):
        await one.close()
    assert "address 192.0.2.7" in world.log
    [one] = await world.stored()
    assert b"([192.0.2.7])" in await world.spool.body(one.mid)
