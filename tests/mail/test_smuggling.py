"""SMTP smuggling between real servers: where one sees the end of a message, the other must see it too.

All ten known malformed endings, through us to Postfix and Exim, from us to them, and from them to us. The
oracle is how many messages the receiver stored.
"""

import asyncio
import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from letterlock_api.snapshot import Destination
from letterlock_gateway.deliver.terms import Timeouts
from tests.gateway.receiving import listener, receiving, running_set
from tests.harness import deliveries, letters, smuggling, waiting
from tests.harness.certificates import Authority
from tests.harness.exim import Exim
from tests.harness.member import Member
from tests.harness.postfix import Postfix
from tests.harness.relay import LISTENER_NAME, MAILBOX_DOMAIN, Relay
from tests.harness.smuggling import ENDINGS, INNER, OUTER

MTAS = pytest.mark.parametrize("mta", ["postfix", "exim"])
NUMBERS = range(len(ENDINGS))


@contextmanager
def receiver(mta: str, authority: Authority) -> Generator[Postfix | Exim]:
    """A server that takes everything for the mailbox."""
    pem = authority.issue(MAILBOX_DOMAIN)
    with ExitStack() as ends:
        if mta == "postfix":
            yield ends.enter_context(Postfix.receiving(certificate=pem))
        else:
            yield ends.enter_context(Exim.receiving(certificate=pem))


@MTAS
def test_what_is_smuggled_through_us_never_reaches_the_next_hop(
    tmp_path: Path, authority: Authority, mta: str
) -> None:
    with receiver(mta, authority) as behind:
        member = Member(tmp_path, workers=1)
        relay = Relay(member, behind.port, authority.issue(LISTENER_NAME), [authority.pem])
        expected = relay.publish()
        with member:
            member.wait_ready().wait_running(expected)
            for number in NUMBERS:
                # One message with one end, and it is refused.
                assert smuggling.attack(relay.port, number) == [554, 221]
            control = letters.letter(subject="control")
            with socket.create_connection(("127.0.0.1", relay.port), timeout=30) as connection:
                lines = [
                    "EHLO x",
                    "MAIL FROM:<a@client.example>",
                    "RCPT TO:<someone@mailbox.example>",
                    "DATA",
                ]
                answers = connection.makefile("rb")
                assert answers.readline().startswith(b"220")
                for line in lines:
                    connection.sendall(f"{line}\r\n".encode())
                    while answers.readline()[3:4] == b"-":
                        pass
                connection.sendall(stuffed(control))
                assert answers.readline().startswith(b"250")
            waiting.until(lambda: letters.arrived(control, behind.messages()), what="the control message")
            assert smuggling.subjects(behind.messages()) == ["control"]
            waiting.until(lambda: member.queue() == 0, what="an empty queue")


@MTAS
async def test_a_body_that_could_smuggle_leaves_us_as_one_message(
    tmp_path: Path, authority: Authority, mta: str
) -> None:
    """Reception takes no such body. Should one lie in a spool all the same, the next hop sees one message."""
    with receiver(mta, authority) as behind:
        async with deliveries.delivering(tmp_path, timeouts=Timeouts()) as world:
            route = deliveries.route(behind.port)
            world.apply(
                Destination(resource="x", domains=[MAILBOX_DOMAIN], tls_mode="Required", routes=[route])
            )
            for number in NUMBERS:
                body = smuggling.text(number).removesuffix(b".\r\n")
                await world.send(f"someone@{MAILBOX_DOMAIN}", body=body)
            await deliveries.until(lambda: world.spool.queue_length() == 0, "an empty queue", seconds=60)
        waiting.until(lambda: len(behind.messages()) >= len(ENDINGS), what="ten messages")
        assert smuggling.subjects(behind.messages()) == sorted(f"{OUTER}{number}" for number in NUMBERS)


@MTAS
async def test_what_postfix_and_exim_see_as_one_message_is_not_two_for_us(tmp_path: Path, mta: str) -> None:
    """A stranger gives them the endings; they send on what they made of it."""
    async with receiving(tmp_path) as world:
        await world.reception.apply(
            running_set(listener(world.port, policy={"behavior": "Relay", "max_connections_per_host": 1000}))
        )

        def send() -> list[int]:
            with ExitStack() as ends:
                if mta == "postfix":
                    sender = ends.enter_context(Postfix.sending(world.port, tls="may"))
                else:
                    sender = ends.enter_context(Exim.sending(world.port))
                accepted = [smuggling.attack(sender.port, number).count(250) for number in NUMBERS]
                control = letters.letter(subject="control")
                sender.submit(control, to="someone@mailbox.example")

                def sent() -> bool:
                    waits = sender.queue()
                    return not waits or "is empty" in waits

                waiting.until(sent, seconds=60, what=f"an empty queue of {mta}")
                return accepted

        accepted = await asyncio.to_thread(send)
        bodies = [await world.spool.body(one.mid) for one in await world.stored()]
    found = smuggling.subjects(bodies)
    assert "control" in found
    for number in NUMBERS:
        # A message with its own MAIL and RCPT brings three 250; one that is only text brings none.
        theirs = 1 if accepted[number] <= 1 else 2
        ours = [one for one in found if one in (f"{OUTER}{number}", f"{INNER}{number}")]
        assert len(ours) <= theirs, f"ending {ENDINGS[number]!r}: they took {theirs}, we took {ours}"
        assert len(ours) == len(set(ours))
        if theirs == 1:
            assert f"{INNER}{number}" not in ours


def stuffed(message: bytes) -> bytes:
    """As it follows DATA."""
    text = message.replace(b"\n", b"\r\n")
    return (b"\r\n" + text).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
