"""Directories: a real slapd over LDAPS and StartTLS, client certificates, and everything that fails."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sansldap import FilterEquality, LDAPFilter

from letterlock_api import queries
from letterlock_gateway.directory import Directory, Settings, Unavailable, connections, directories
from letterlock_gateway.directory.answers import NO, YES, Answers
from letterlock_gateway.directory.settings import Server, server
from letterlock_gateway.report.log import Log
from letterlock_gateway.tls.trust import TrustStore
from tests.harness import ports
from tests.harness.certificates import Authority
from tests.harness.slapd import BASE, BIND, PASSWORD, Slapd

AUTHORITY = Authority()
SERVER = AUTHORITY.issue("localhost", "127.0.0.1")
OURS = AUTHORITY.issue("gw.example", common_name="gateway")
TRUST = TrustStore.from_pem(AUTHORITY.pem)


@pytest.fixture(scope="module")
def slapd() -> Iterator[Slapd]:
    with Slapd(SERVER, AUTHORITY.pem, people=("known", "o*brien", "b(r)ace", "back\\slash")) as made:
        yield made


@pytest.fixture(scope="module")
def strict() -> Iterator[Slapd]:
    """Demands client certificates, and answers those it knows by their certificate alone."""
    access = 'by dn.regex="cn=gateway" read by * none'
    with Slapd(SERVER, AUTHORITY.pem, clients="demand", access=access) as made:
        yield made


def settings(one: Slapd, **changes: Any) -> Settings:
    tls = changes.get("tls", "LDAPS")
    fields: dict[str, Any] = {
        "name": "people",
        "servers": (Server("127.0.0.1", one.tls_port if tls == "LDAPS" else one.port),),
        "tls": tls,
        "base": BASE,
        "bind": BIND,
        "password": PASSWORD,
        "trust": TRUST,
    }
    return Settings(**(fields | changes))


class Asked:
    """A directory with what it wrote into the log."""

    def __init__(self, chosen: Settings, **changes: Any) -> None:
        self.lines: list[dict[str, Any]] = []
        log = Log("json", write=lambda line: self.lines.append(json.loads(line)))
        self.directory = Directory(chosen, log, **changes)

    async def __call__(self, user: str) -> bool:
        return await self.directory.knows(queries.filled("(mail={a})", user, "here.example"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.directory.close()

    @property
    def log(self) -> str:
        return "\n".join(str(line["message"]) for line in self.lines)


@pytest.mark.parametrize("tls", ["LDAPS", "StartTLS", "None"])
async def test_it_knows_whom_the_directory_knows(slapd: Slapd, tls: str):
    async with Asked(settings(slapd, tls=tls)) as asked:
        assert [await asked(user) for user in ("known", "stranger", "KNOWN")] == [True, False, True]
    assert asked.log == ""


@pytest.mark.parametrize("tls", ["LDAPS", "StartTLS"])
async def test_our_certificate_is_shown_and_gives_us_our_identity(strict: Slapd, tls: str):
    mine = settings(strict, tls=tls, bind="", password="", certificate=OURS)
    async with Asked(mine) as asked:
        assert await asked("known")
        assert not await asked("stranger")
    strict.wait_logged("mech=EXTERNAL")
    async with Asked(settings(strict, tls=tls, bind="", password="")) as asked:
        with pytest.raises(Unavailable):
            await asked("known")


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
async def test_a_server_is_verified_by_the_name_or_address_that_was_written(slapd: Slapd, name: str):
    chosen = settings(slapd, servers=(Server(name, slapd.tls_port),))
    async with Asked(chosen) as asked:
        assert await asked("known")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trust": TrustStore.from_pem(Authority().pem)}, "its certificate is not trusted"),
        ({"trust": TrustStore.from_pem()}, "its certificate is not trusted"),
        ({"password": "wrong"}, "the bind failed: INVALID_CREDENTIALS"),
        ({"base": "dc=elsewhere"}, "the search failed: NO_SUCH_OBJECT"),
        ({"base": "no dn"}, "the search failed: INVALID_DN_SYNTAX"),
    ],
    ids=["another CA", "no CA", "wrong password", "no such base", "base that is none"],
)
@pytest.mark.parametrize("tls", ["LDAPS", "StartTLS"])
async def test_what_is_no_answer_is_never_a_no(slapd: Slapd, changes: dict[str, Any], words: str, tls: str):
    async with Asked(settings(slapd, tls=tls, **changes)) as asked:
        with pytest.raises(Unavailable, match=words):
            await asked("known")
    assert "LDAP people cannot be asked: " in asked.log
    assert PASSWORD not in asked.log
    assert "wrong" not in asked.log


async def test_a_certificate_for_another_name_gets_no_password(tmp_path: Path):
    with Slapd(AUTHORITY.issue("other.example"), AUTHORITY.pem) as other:
        for tls in ("LDAPS", "StartTLS"):
            async with Asked(settings(other, tls=tls)) as asked:
                with pytest.raises(Unavailable, match=r"for other\.example, and not for 127\.0\.0\.1"):
                    await asked("known")
        assert "BIND" not in other.log


async def test_an_anonymous_search_that_is_not_allowed_is_no_answer(slapd: Slapd):
    """slapd shows an empty tree to those who may not see it: that is no word about any recipient."""
    async with Asked(settings(slapd, bind="", password="")) as asked:
        with pytest.raises(Unavailable, match="does not show us"):
            await asked("known")


@pytest.mark.parametrize(
    "user", ["*", "k*", "known)(cn=*", "known\0", "*)(mail=*", "\\2a", "o*", "b(r)", "k\u00e4se"]
)
async def test_whatever_a_stranger_writes_is_a_value(slapd: Slapd, user: str):
    async with Asked(settings(slapd)) as asked:
        assert not await asked(user)


@pytest.mark.parametrize("user", ["o*brien", "b(r)ace", "back\\slash"])
async def test_names_with_signs_of_filters_are_found(slapd: Slapd, user: str):
    async with Asked(settings(slapd)) as asked:
        assert await asked(user)


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_filled_filter_is_one_comparison_with_exactly_what_was_given(local: str, domain: str):
    made = LDAPFilter.from_string(queries.filled("(mail={a})", local, domain))
    assert isinstance(made, FilterEquality)
    assert made.value == f"{local}@{domain}".encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("(mail={a})", ""),
        ("(&(objectClass=person)(|(mail={a})(uid={u}))(dc={d}))", ""),
        ("(mail={b})", "{b} is unknown"),
        ("(mail=x)", "holds none of"),
        ("mail={a}))", "no LDAP filter"),
        ("(mail={a}", "no LDAP filter"),
        ("(" * 400 + "mail={a}", "no LDAP filter"),
        ("(!" * 250 + "(mail={a})" + ")" * 250, ""),
    ],
)
def test_filters_are_checked(template: str, words: str):
    found = queries.problem(template)
    assert words in found
    assert bool(found) == bool(words) or template.startswith("(!")


@pytest.mark.parametrize(
    ("text", "tls", "expected"),
    [
        ("ldap.example.com", "LDAPS", Server("ldap.example.com", 636)),
        ("ldap.example.com", "StartTLS", Server("ldap.example.com", 389)),
        ("ldap.example.com:3890", "None", Server("ldap.example.com", 3890)),
        ("[2001:db8::1]:10636", "LDAPS", Server("2001:db8::1", 10636)),
        ("[::1]", "LDAPS", Server("::1", 636)),
    ],
)
def test_servers_as_they_are_written(text: str, tls: Any, expected: Server):
    assert server(text, tls) == expected


def test_a_server_without_a_valid_port():
    with pytest.raises(ValueError, match="port"):
        server("ldap.example.com:99999", "LDAPS")


# Servers in turn, connections kept, answers remembered


async def test_servers_are_tried_in_turn_and_one_that_failed_is_left_alone_for_a_while(slapd: Slapd):
    dead = Server("127.0.0.1", ports.free_port())
    good = Server("127.0.0.1", slapd.tls_port)
    async with Asked(settings(slapd, servers=(dead, good))) as asked:
        assert await asked("known")
        assert asked.directory._in_order() == [good, dead]  # pyright: ignore[reportPrivateUsage]
        assert not await asked("stranger")
    assert asked.log == ""


async def test_a_server_that_is_silent_costs_a_time_out_and_not_the_answer(
    slapd: Slapd, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connections, "CONNECT", 2.0)
    taken: list[asyncio.StreamWriter] = []

    async def swallow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(writer)

    silent = await asyncio.start_server(swallow, "127.0.0.1", 0)
    try:
        mute = Server("127.0.0.1", silent.sockets[0].getsockname()[1])
        good = Server("127.0.0.1", slapd.tls_port)
        async with Asked(settings(slapd, servers=(mute, good))) as asked:
            assert await asked("known")
        monkeypatch.setattr(connections, "CONNECT", 0.3)
        async with Asked(settings(slapd, servers=(mute,))) as asked:
            with pytest.raises(Unavailable, match=r"no connection within 0\.3 s"):
                await asked("known")
    finally:
        silent.close()
        for writer in taken:
            writer.close()


async def test_a_connection_is_used_again_and_made_anew_when_the_server_was_restarted():
    with Slapd(SERVER, AUTHORITY.pem) as one:
        async with Asked(settings(one)) as asked:
            assert await asked("known")
            assert not await asked("first")
            assert one.log.count("ACCEPT") <= 3  # two from the harness looking whether it listens
            one.stop()
            with pytest.raises(Unavailable):
                await asked("second")
            assert await asked("known"), "what was said a moment ago counts"
            with pytest.raises(Unavailable):
                await asked("third")
            one.start()
            asked.directory._down_until = 0.0  # pyright: ignore[reportPrivateUsage]
            assert not await asked("third")
        assert "answers again" in asked.log
        assert asked.log.count("cannot be asked") == 1, "said once, not for every recipient"


async def test_many_ask_at_once_over_a_few_connections(slapd: Slapd):
    before = slapd.log.count("ACCEPT")
    async with Asked(settings(slapd)) as asked:
        found = await asyncio.gather(*(asked(f"u{n}") for n in range(200)), asked("known"))
    assert found == [False] * 200 + [True]
    assert slapd.log.count("ACCEPT") - before <= 8


async def test_somebody_who_is_new_is_known_soon():
    now = [0.0]
    with Slapd(SERVER, AUTHORITY.pem) as one:
        async with Asked(settings(one), clock=lambda: now[0]) as asked:
            assert not await asked("new")
            one.add("new")
            assert not await asked("new")
            now[0] += NO
            assert await asked("new")


def test_answers_are_remembered_for_a_while_and_not_too_many(monkeypatch: pytest.MonkeyPatch):
    answers = Answers()
    answers.put("a", 0, known=True)
    answers.put("b", 0, known=False)
    assert (answers.get("a", YES - 1), answers.get("a", YES)) == (True, None)
    assert (answers.get("b", NO - 1), answers.get("b", NO)) == (False, None)
    monkeypatch.setattr("letterlock_gateway.directory.answers._MOST", 2)
    answers.put("c", 0, known=True)
    assert answers.get("a", 1) is None
    assert answers.get("c", 1)


async def test_what_a_broken_server_says_is_no_answer(monkeypatch: pytest.MonkeyPatch):
    for junk in (
        b"\x30\x03\x02\x01\x01",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x30\x84\xff\xff\xff\xff",
        b"",
    ):

        async def answer(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, junk: bytes = junk
        ) -> None:
            await reader.read(100)
            writer.write(junk)
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as broken:
            there = Server("127.0.0.1", broken.sockets[0].getsockname()[1])
            chosen = Settings("broken", (there,), "None", BASE, BIND, PASSWORD)
            async with Asked(chosen) as asked:
                with pytest.raises(Unavailable):
                    await asked("known")


async def test_equal_settings_are_one_directory_and_what_is_no_longer_wanted_is_closed(slapd: Slapd):
    made = directories.Directories(Log("json", write=lambda _: None))
    one = made.get(settings(slapd))
    assert made.get(settings(slapd)) is one
    assert made.get(settings(slapd, base="dc=other")) is not one
    assert await one.knows("(mail=known@here.example)")
    made.keep([settings(slapd)])
    assert made.get(settings(slapd)) is one
    made.close()
    assert one._idle == []  # pyright: ignore[reportPrivateUsage]


async def test_an_answer_that_somebody_put_in_before_tls_counts_for_nothing(slapd: Slapd):
    """StartTLS through a relay in between, which lets its own answers lie ready in clear text (RFC 4511, section 4.14).

    They fill what is read at once, and one octet more, so that they are there when TLS has begun.
    """

    yes = _tlv(0x0A, b"\0") + _tlv(0x04, b"") + _tlv(0x04, b"")
    forged = _message(1, 0x61, yes)  # the bind succeeds
    for number in (2, 3):  # the base is there, and so is whoever is asked for
        forged += _message(number, 0x64, _tlv(0x04, b"") + _tlv(0x30, b"")) + _message(number, 0x65, yes)

    def success(padding: int) -> bytes:
        return _message(1, 0x78, _tlv(0x0A, b"\0") + _tlv(0x04, b"") + _tlv(0x04, b"x" * padding))

    padding = 65000
    padding += 65536 - len(success(padding))
    assert len(success(padding)) == 65536

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", slapd.port)
        here.write(await reader.read(1000))
        await there.read(1000)
        writer.write(success(padding) + forged)
        with contextlib.suppress(OSError):
            await asyncio.gather(_copied(reader, here), _copied(there, writer))
        here.close()
        writer.close()

    async with await asyncio.start_server(between, "127.0.0.1", 0) as relay:
        port = relay.sockets[0].getsockname()[1]
        async with Asked(settings(slapd, tls="StartTLS", servers=(Server("127.0.0.1", port),))) as asked:
            assert not await asked("unknown")
            assert await asked("known")


def _tlv(tag: int, content: bytes) -> bytes:
    """ASN.1 in BER, of up to 64 KiB."""
    size = len(content)
    length = (
        size.to_bytes(1)
        if size < 128
        else b"\x82" + size.to_bytes(2)
        if size < 65536
        else b"\x83" + size.to_bytes(3)
    )
    return tag.to_bytes(1) + length + content


def _message(number: int, tag: int, content: bytes) -> bytes:
    return _tlv(0x30, _tlv(0x02, number.to_bytes(1)) + _tlv(tag, content))


async def _copied(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        to.write(data)
    to.close()
