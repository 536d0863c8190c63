"""Recipients that a directory knows: the session without I/O, then over sockets with a real slapd behind it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from letterlock_api.credentials import Credentials, encode, file_name
from letterlock_api.snapshot import (
    AccessGroup,
    RecipientQuery,
    RecipientRule,
    Snapshot,
    SnapshotDirectory,
    SnapshotListener,
    TrustList,
    ca_file_name,
)
from letterlock_gateway.directory import connections
from letterlock_gateway.mount import MountRefused, assemble
from letterlock_gateway.receive import replies
from letterlock_gateway.receive.actions import Ask
from letterlock_gateway.receive.orders import Phase
from letterlock_gateway.receive.paths import Path as MailPath
from letterlock_gateway.receive.recipients import Recipients
from letterlock_gateway.running import RunningSet
from tests.gateway.receiving import Client, Receiving, listener, receiving
from tests.gateway.test_session import ask, codes, said, session
from tests.harness.certificates import Authority
from tests.harness.slapd import BASE, BIND, PASSWORD, Slapd
from tests.harness.swaks import swaks

QUERY = "(mail={a})"
AUTHORITY = Authority()


# The session


def test_a_recipient_waits_for_the_directorys_word_and_what_follows_waits_too():
    one = session(query=QUERY)
    ask(one, "EHLO x")
    answer = ask(one, "MAIL FROM:<>", "RCPT TO:<a@here.example>", "RCPT TO:<b@here.example>", "RSET")
    assert codes(answer) == [250]
    assert isinstance(one.action, Ask)
    assert (one.action.address, one.action.query) == ("a@here.example", "(mail=a@here.example)")
    assert one.phase is Phase.WAITING
    one.known(None)
    assert codes(said(one)) == [250]
    assert isinstance(one.action, Ask)
    assert one.action.query == "(mail=b@here.example)"
    one.known(replies.RECIPIENT_UNKNOWN)
    assert said(one).splitlines() == [
        "550 5.1.1 Address rejected: there is no such recipient here",
        "250 2.0.0 Reset",
    ]
    assert one.action is None
    assert one.phase is Phase.READY


def test_without_any_known_recipient_there_is_no_data():
    one = session(query=QUERY)
    ask(one, "EHLO x")
    ask(one, "MAIL FROM:<>", "RCPT TO:<a@here.example>")
    one.known(replies.DIRECTORY_FAILED)
    assert said(one).startswith("451 4.4.3")
    assert codes(ask(one, "DATA")) == [503]
    assert any("To: <a@here.example> rejected: The recipient could not be looked up" in n for n in one.notes)


def test_a_session_that_was_cut_meanwhile_hears_nothing():
    one = session(query=QUERY)
    ask(one, "EHLO x")
    ask(one, "MAIL FROM:<>", "RCPT TO:<a@here.example>")
    one.cut(replies.SHUTTING_DOWN)
    said(one)
    one.known(None)
    assert said(one) == ""
    assert one.accepted == 0


@pytest.mark.parametrize(
    ("recipient", "policy", "code"),
    [
        ("postmaster", {}, 250),
        ("Postmaster@here.example", {}, 250),
        ("refused@here.example", {}, 550),
        ("u@elsewhere.example", {}, 550),
        ("u@elsewhere.example", {"behavior": "Relay"}, 250),
    ],
    ids=["postmaster", "postmaster of a domain", "refused by the table", "not ours", "relay"],
)
def test_who_is_not_asked_about(recipient: str, policy: dict[str, Any], code: int):
    one = session(query=QUERY, **policy)
    ask(one, "EHLO x")
    assert codes(ask(one, "MAIL FROM:<>", f"RCPT TO:<{recipient}>")) == [250, code]


def test_default_domain_and_domain_map_come_before_the_query():
    table = Recipients(
        [RecipientRule(match=["new.example"], accept=True)],
        default_domain="old.example",
        domain_map={"old.example": "new.example"},
        postmaster="p@x",
    )
    assert table.resolve(MailPath("u", ""), relay=False) == "u@new.example"
    one = session(query="(&(uid={u})(dc={d}))")
    ask(one, "EHLO x")
    ask(one, "MAIL FROM:<>", "RCPT TO:<u*>")
    assert isinstance(one.action, Ask)
    assert one.action.query == "(&(uid=u\\2a)(dc=here.example))"


@pytest.mark.parametrize(
    ("match", "accept", "domain", "taken"),
    [
        (["here.example"], True, "here.example", True),
        ([".example"], True, "here.example", True),
        (["u@here.example"], True, "here.example", True),
        (["u@other.example"], True, "here.example", False),
        (["u@"], True, "here.example", False),
        (["here.example"], False, "here.example", False),
        (["postmaster@here.example"], False, "here.example", False),
    ],
)
def test_the_postmaster_of_a_domain_that_is_served_is_always_reached(
    match: list[str], accept: bool, domain: str, taken: bool
):
    table = Recipients([RecipientRule(match=match, accept=accept)], postmaster="p@x.example")
    found = table.resolve(MailPath("postMaster", domain), relay=False)
    assert (found == f"postMaster@{domain}") == taken
    first = Recipients(
        [
            RecipientRule(match=["postmaster@", "postmaster@here.example"], accept=False),
            RecipientRule(match=match, accept=accept),
        ],
        postmaster="p@x.example",
    )
    assert isinstance(first.resolve(MailPath("postmaster", domain), relay=False), str) == taken


# Over sockets


@pytest.fixture
def slapd() -> Iterator[Slapd]:
    with Slapd(AUTHORITY.issue("127.0.0.1"), AUTHORITY.pem) as made:
        yield made


def asking(port: int, *servers: str, password: str = PASSWORD, **fields: Any) -> RunningSet:
    content = encode(Credentials(BIND, password), b"salt")
    files = {ca_file_name(AUTHORITY.pem): AUTHORITY.pem, file_name(content): content}
    one = listener(port, query=RecipientQuery(directory="people", filter=QUERY), **fields)
    return build(one, files, servers)


def build(one: SnapshotListener, files: dict[str, bytes], servers: tuple[str, ...]) -> RunningSet:
    snapshot = Snapshot(
        gateway="default",
        hostname="mx.here.example",
        listeners=[one],
        directories=[
            SnapshotDirectory(
                name="people",
                servers=list(servers),
                tls="LDAPS",
                base_dn=BASE,
                bind_file=next((name for name in files if name.startswith("auth-")), None),
            )
        ],
        trust={"test": TrustList(file=ca_file_name(AUTHORITY.pem))},
        files=sorted(files),
    )
    return RunningSet.build(assemble(snapshot.encode(), files), "default-0")


async def rcpt(world: Receiving, *users: str, source: str = "127.0.0.1") -> list[str]:
    """What each of these is answered, all in one group (PIPELINING)."""
    client = await Client.connect(world.port, source=source)
    try:
        await client.reply()
        await client.ask("EHLO client.example")
        lines = [f"RCPT TO:<{user}@here.example>" for user in users]
        await client.ask("MAIL FROM:<a@b.example>", *lines)
        return [(await client.reply())[:9] for _ in users]
    finally:
        await client.close()


async def test_known_and_unknown_recipients_and_a_directory_that_is_down(slapd: Slapd, tmp_path: Path):
    async with receiving(tmp_path) as world:
        running = asking(world.port, f"127.0.0.1:{slapd.tls_port}")
        await world.reception.apply(running)
        yes, no, failed = "250 2.1.5", "550 5.1.1", "451 4.4.3"
        assert await rcpt(world, "known", "stranger", "k*", "known", "postmaster") == [yes, no, no, yes, yes]
        seen = await asyncio.to_thread(
            swaks,
            world.port,
            to="known@here.example",
            data=b"Subject: x\n\nx\n",
            directory=tmp_path,
            tls=False,
        )
        assert seen.accepted, seen.text
        slapd.stop()
        await world.reception.apply(asking(world.port, f"127.0.0.1:{slapd.tls_port}", tcp_queue=49))
        world.reception.directories.close()
        await world.reception.apply(running)
        assert await rcpt(world, "known", "stranger", "postmaster") == [failed, failed, yes]
        assert "LDAP people cannot be asked: 127.0.0.1:" in world.log
        assert "To: <known@here.example> rejected: The recipient could not be looked up" in world.log
        slapd.start()
        async with asyncio.timeout(30):
            while await rcpt(world, "known", "other") != [yes, no]:
                pass
        assert "LDAP people answers again" in world.log
        assert PASSWORD not in world.log


async def test_a_directory_that_is_silent_delays_nobody_who_does_not_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connections, "CONNECT", 3.0)
    held: list[asyncio.StreamWriter] = []

    async def swallow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    silent = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with receiving(tmp_path) as world:
        groups = [
            AccessGroup(name="inside", senders=["127.0.0.9"], policy="relay"),
            AccessGroup(name="rest", senders=["ALL"], policy="default"),
        ]
        await world.reception.apply(
            asking(
                world.port,
                f"127.0.0.1:{silent.sockets[0].getsockname()[1]}",
                groups=groups,
                policies=[{"name": "relay", "behavior": "Relay"}],
            )
        )
        waiting = asyncio.create_task(rcpt(world, "known"))
        gone = await Client.connect(world.port)
        await gone.reply()
        await gone.ask("EHLO client.example")
        await gone.ask("MAIL FROM:<a@b.example>")
        gone.writer.write(b"RCPT TO:<known@here.example>\r\n")
        await gone.writer.drain()
        while not held:
            await asyncio.sleep(0.01)
        gone.writer.transport.abort()
        assert await rcpt(world, "anybody", source="127.0.0.9") == ["250 2.1.5"]
        assert not waiting.done()
        assert await waiting == ["451 4.4.3"]
    silent.close()
    for writer in held:
        writer.close()


def test_a_set_whose_listener_cannot_ask_is_refused():
    ca = {ca_file_name(AUTHORITY.pem): AUTHORITY.pem}
    for query, words in (
        (RecipientQuery(directory="gone", filter=QUERY), "no directory gone"),
        (RecipientQuery(directory="people", filter="(mail={a}"), "no LDAP filter"),
    ):
        with pytest.raises(MountRefused, match=words):
            build(listener(25, query=query), ca, ("127.0.0.1",))
    with pytest.raises(MountRefused, match="port"):
        build(listener(25), ca, ("127.0.0.1:99999",))
