"""Pages show the whole gateway, whichever member a browser asked; who could not be read is named, never left out."""

import contextlib
import json
import re
import signal
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import psutil
import pytest

from letterlock_api.state import INTERNAL_CERTIFICATE_FILE, LOOK_PATH
from letterlock_gateway.web.looks import ROWS
from tests.harness.waiting import until
from tests.web.managed import Client
from tests.web.populated import DAY, HOSTILE, HOSTILE_LOCAL
from tests.web.several import ADDRESSES, NAMES, Odd, Several, several

# A message whose recipients are more than a page shows.
MANY: Final = 90
PAGES: Final = ("/", "/queue", "/messages", "/listeners", "/listeners/public", "/destinations", "/alerts")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Several]:
    with several(tmp_path_factory.mktemp("several")) as found:
        found.send(0, "one@sender.example", "x@a.example")
        found.send(1, "two@sender.example", "y@b.example")
        for number in range(2):
            names = [f"r{number}-{one}@c.example" for one in range(MANY)]
            found.send(1, f"many-{number}@sender.example", *names)
        until(lambda: [one.queue() for one in found.members] == [1, 1 + 2 * MANY], what="all of it waits")
        yield found


@pytest.fixture(scope="module")
def client(gateway: Several) -> Client:
    return gateway.first.signed_in()


def rows(page: str) -> list[str]:
    """The rows of its tables, as text."""
    found = re.findall(r"<tr.*?</tr>", page, re.DOTALL)
    return [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", one)).strip() for one in found]


@pytest.mark.parametrize("address", ADDRESSES[:2])
def test_the_overview_is_of_all_members_whoever_was_asked(gateway: Several, address: str) -> None:
    client = gateway.first.client(address=address)
    client.sign_in()
    page = client.get("/").text
    there = [one for one in rows(page) if one.startswith("default-")]
    assert [one.split()[0] for one in there] == list(NAMES[:2])
    assert all(" Runs " in one for one in there)
    assert f">{2 + 2 * MANY}<" in page  # the queue of both
    assert "1 of 1" in page
    for domain in ("a.example", "b.example", "c.example"):
        assert f"Mail for {domain} cannot be delivered: Unreachable" in page
    came = re.search(r'aria-label="Messages in: (\d+) encrypted, (\d+) in clear text', page)
    went = re.search(r'aria-label="Deliveries out: (\d+) verified, (\d+) encrypted, (\d+) in clear', page)
    assert came is not None
    assert went is not None
    assert [int(one) for one in came.groups()] == [2 * DAY[0], 2 * DAY[1] + 4]
    assert [int(one) for one in went.groups()] == [2 * one for one in DAY[2:5]]
    assert "2 recipients bounced" in page


def test_the_queue_is_of_all_members(client: Client) -> None:
    page = client.get("/queue").text
    shown = rows(page)[1:]
    assert len(shown) == ROWS
    assert {one.split()[1] for one in shown} == {NAMES[1]}  # the latest
    assert f"c.example {2 * MANY}, " in page
    assert "search to see others" in page
    (one,) = rows(client.get("/queue?to=@a.example").text)[1:]
    assert "default-0" in one
    assert "one@sender.example" in one


def test_messages_are_found_on_every_member_and_told_whole(client: Client) -> None:
    page = client.get("/messages?from=@sender.example").text
    assert [one.split()[1] for one in rows(page)[1:]] == [NAMES[1]] * 3 + [NAMES[0]]
    assert f"+{MANY - 1}" in page
    (link,) = re.findall(
        r'href="(/messages/\d+\?member=default-1)"', client.get("/messages?id=two@sender.example").text
    )
    one = client.get(link).text
    assert "two@sender.example" in one
    assert "on default-1" in one
    assert "deferred" in one
    assert client.get(link.replace("default-1", "nobody")).status == 404
    assert client.get(link.replace("default-1", "default-0")).status in (200, 404)
    assert client.get("/messages/1?member=default-1").status == 404


def test_destinations_tell_of_what_another_member_met(client: Client) -> None:
    (one,) = [one for one in rows(client.get("/destinations?failing=1").text) if "control-b" in one]
    assert "b.example: Unreachable" in one
    assert "b.example to [127.0.0.1]" in one


def asking(gateway: Several) -> bytes:
    return gateway.members[0].internal.member_files()[INTERNAL_CERTIFICATE_FILE]


def look(gateway: Several, question: Any) -> tuple[int, str]:
    answer = gateway.post(1, LOOK_PATH, json.dumps(question).encode(), asking(gateway))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head[:3]), body.decode()


@pytest.mark.parametrize(
    "question",
    [
        {"do": "delete", "mids": []},
        {"do": "retry", "mids": []},
        {"do": "running"},
        {"do": "look", "at": {"x": "127.0.0.1"}, "question": "{}"},
        {"do": "check", "domain": "a.example"},
        {"do": "find", "search": {"waiting": True}, "mids": [1]},
        {"do": "find", "search": {"limit": 1_000_000}},
        {"do": "find", "search": {"mid": "1 OR 1"}},
        {"do": "state", "resources": ["x"] * 1000},
        {},
        [],
        "state",
    ],
    ids=str,
)
def test_members_answer_each_other_nothing_but_what_pages_show(gateway: Several, question: Any) -> None:
    assert look(gateway, question) == (503, "that is not a question that members answer: another version?\n")
    assert gateway.members[1].queue() == 1 + 2 * MANY


def test_only_members_may_ask_and_only_for_that(gateway: Several) -> None:
    question = b'{"do": "state"}'
    operator = gateway.members[0].internal.operator_identity()
    assert gateway.post(1, LOOK_PATH, question, operator).startswith(b"403")
    assert gateway.post(1, LOOK_PATH, question, asking(gateway), "GET").startswith(b"403")
    assert gateway.post(1, "/state", b"", asking(gateway), "GET").startswith(b"403")
    assert gateway.post(1, "/queue", question, asking(gateway)).startswith(b"404")
    assert gateway.post(1, LOOK_PATH, b" " * 20_000, asking(gateway)).startswith(b"413")
    assert gateway.post(1, LOOK_PATH, b"\xff\xfe", asking(gateway)).startswith(b"503")
    answer = b""
    with contextlib.suppress(
        OSError
    ):  # what a client sees of a failed TLS 1.3 handshake is a matter of timing
        answer = gateway.post(1, LOOK_PATH, question, None)
    assert answer == b""


def test_an_answer_has_no_more_than_a_page_shows(gateway: Several) -> None:
    status, body = look(gateway, {"do": "find", "search": {"waiting": True}})
    assert status == 200
    found = json.loads(body)
    assert sum(len(one["recipients"]) for one in found) == ROWS
    assert sum(one["recipientCount"] for one in found) == 1 + 2 * MANY
    listed = json.loads(look(gateway, {"do": "find", "search": {"sender": "@sender.example"}})[1])
    assert [len(one["recipients"]) for one in listed] == [1, 1, 1]
    state = json.loads(look(gateway, {"do": "state"})[1])
    assert state["digests"] == {}
    for secret in ("PRIVATE KEY", "$2b$"):
        assert secret not in body + json.dumps(state)


@contextmanager
def odd_one(gateway: Several) -> Generator[Odd]:
    """The gateway with a third member, which a test speaks for."""
    member = gateway.members[0]
    odd = Odd(member.spool.parent, member.internal.member_files(), member.state_port)
    with odd.serving():
        gateway.publish(*NAMES)
        try:
            yield odd
        finally:
            gateway.publish(*NAMES[:2])


def found_by(sender: str, **changes: Any) -> bytes:
    """An answer with one message."""
    message = {"mid": 7, "icid": 1, "sender": sender, "receivedAt": "2030-01-01T00:00:00.000Z"}
    recipient = {"address": "z@z.example", "state": "deferred"}
    return json.dumps([{**message, "recipients": [recipient], "recipientCount": 1, **changes}]).encode()


def test_what_another_member_says_is_taken_like_the_words_of_a_stranger(
    gateway: Several, client: Client
) -> None:
    with odd_one(gateway) as odd:
        odd.answer = found_by(
            f"{HOSTILE_LOCAL}@{HOSTILE}", recipients=[{"address": HOSTILE, "state": HOSTILE}]
        )
        until(lambda: ">default-2</td>" in client.get("/messages").text, what="the third's message")
        page = client.get("/messages").text
        assert "&lt;script&gt;" in page
        assert "<script" not in page
        assert "<img src=x" not in page
        senseless = (
            b"",
            b"nonsense",
            b"[" * 100_000,
            b"\xff\xfe",
            b"{}",
            b"[1]",
            found_by("s@s.example", mid="x"),
            found_by("s@s.example", receivedAt="yesterday"),
        )
        for answer in senseless:
            odd.answer = answer
            reply = client.get("/messages?from=@sender.example")
            assert reply.status == 200, answer[:80]
            assert "Member <strong>default-2</strong> could not be read" in reply.text, answer[:80]
            assert len(rows(reply.text)) == 5  # what the others have is there
        odd.answer = None
        assert "default-2</strong> could not be read" in client.get("/messages").text
        odd.answer, odd.endless = b"[", True
        assert "is longer than" in client.get("/messages").text
        assert odd.taken < 32 << 20  # nobody took all of it


def test_who_is_not_there_is_named_on_every_page(gateway: Several, client: Client) -> None:
    gateway.publish(*NAMES)  # nobody is at the third one's address
    try:
        until(lambda: "default-2" in client.get("/").text, what="the third in the table")
        for path in PAGES:
            reply = client.get(path)
            assert reply.status == 200, path
            assert re.search(
                r"default-2(</strong>)? could not be read: no connection to 127\.0\.0\.3", reply.text
            ), path
        assert "The day below is without default-2" in client.get("/").text
        one = client.get("/messages/7?member=default-2")
        assert one.status == 200
        assert "default-2</strong> could not be read" in one.text
    finally:
        gateway.publish(*NAMES[:2])


def test_one_that_hangs_is_named_and_is_back_when_it_goes_on(gateway: Several, client: Client) -> None:
    member = gateway.members[1]
    assert member.process is not None
    supervisor = psutil.Process(member.process.pid)
    (pages,) = [one for one in supervisor.children(recursive=True) if one.name() == "letterlock-http"]
    for process in (pages, supervisor):
        process.send_signal(signal.SIGSTOP)
        try:
            until(
                lambda: "Member default-1 could not be read" in client.get("/").text,
                what="the one that hangs named",
            )
            page = client.get("/queue").text
            assert "Member <strong>default-1</strong> could not be read" in page
            assert "x@a.example" in page
        finally:
            process.send_signal(signal.SIGCONT)
        until(lambda: "could not be read" not in client.get("/").text, what="it is back", seconds=60)


def test_one_that_dies_is_named_and_is_back_when_it_runs_again(gateway: Several, client: Client) -> None:
    member = gateway.members[1]
    member.kill9()
    try:
        until(
            lambda: "Member default-1 could not be read: no connection" in client.get("/").text,
            what="the one that died named",
        )
        assert "x@a.example" in client.get("/queue").text
    finally:
        member.start()
    gateway.wait_served(member)
    until(lambda: "could not be read" not in client.get("/").text, what="it is back", seconds=60)
    assert f">{2 + 2 * MANY}<" in client.get("/").text
