"""DSN, SMTPUTF8 and 8BITMIME end to end: a client, a member, real Postfixes that offer them or not, and what comes out.

Each Postfix passes everything on to a server that writes down what it is told: so it is seen what Postfix made of what
it got from us.
"""

import asyncio
import smtplib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from letterlock_api.snapshot import NextHop, RetrySchedule, SnapshotDelivery
from tests.harness import mounts, ports
from tests.harness.faulty_smtp import Delivered, FaultySMTP
from tests.harness.member import Member
from tests.harness.postfix import Postfix

ENVID = "QQ+2BAbc314159"
ORCPT = "rfc822;Bob+2BX@Orig.Example"
PLAIN = b"Subject: x\r\n\r\nsecret text\r\n"
EIGHT = "Subject: x\r\n\r\nein Übertrag\r\n".encode()


@dataclass
class Hops:
    """A member with a next hop for each of two domains, and what lies behind these."""

    port: int
    full: FaultySMTP
    """Behind a Postfix that offers everything, for full.example."""
    bare: FaultySMTP
    """Behind one that offers neither DSN nor SMTPUTF8 nor 8BITMIME, for bare.example."""

    async def send(
        self, to: str, data: bytes, mail: tuple[str, ...] = (), rcpt: tuple[str, ...] = ()
    ) -> None:
        """A message of sender@full.example, with these parameters as they stand."""

        def run() -> None:
            with smtplib.SMTP("127.0.0.1", self.port, local_hostname="client.example", timeout=60) as client:
                client.command_encoding = "utf-8"
                client.ehlo()
                for line in (
                    " ".join(["MAIL FROM:<Sender@full.example>", *mail]),
                    " ".join([f"RCPT TO:<{to}>", *rcpt]),
                ):
                    assert client.docmd(line)[0] == 250, line
                assert client.data(data)[0] == 250

        await asyncio.to_thread(run)


@pytest.fixture
async def hops(tmp_path: Path) -> AsyncIterator[Hops]:
    async with AsyncExitStack() as ends:
        full = await ends.enter_async_context(FaultySMTP())
        bare = await ends.enter_async_context(FaultySMTP())
        postfixes: list[Postfix] = []
        for behind, without in ((full, ""), (bare, "dsn, smtputf8, 8bitmime")):
            made = Postfix.sending(behind.port, tls="none", settings={"smtpd_discard_ehlo_keywords": without})
            ends.callback(made.remove)
            postfixes.append(await asyncio.to_thread(made.start))
        member = Member(tmp_path, workers=1)
        port = ports.free_port()
        destinations = [
            mounts.destination(domain, routes=[NextHop(host="127.0.0.1", port=one.port)], tls_mode="No")
            for domain, one in zip(("full.example", "bare.example"), postfixes, strict=True)
        ]
        taken = mounts.snapshot(
            listeners=[mounts.listener(port)],
            destinations=[*destinations, mounts.destination()],
            delivery=SnapshotDelivery(retry=RetrySchedule(initial=1.0, max=2.0)),
        )
        expected = member.mount.publish(taken, mounts.Files())
        ends.enter_context(member)
        await asyncio.to_thread(member.wait_ready)
        await asyncio.to_thread(member.wait_running, expected)
        yield Hops(port, full, bare)


async def until(observe: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not observe():
            await asyncio.sleep(0.02)


def of_null_sender(server: FaultySMTP) -> list[Delivered]:
    return [one for one in server.delivered if one.mail.startswith("MAIL FROM:<>")]


async def test_dsn_parameters_reach_who_offers_dsn_as_they_were_written_and_nobody_else(hops: Hops) -> None:
    parameters = (f"ENVID={ENVID}", "RET=HDRS"), ("NOTIFY=SUCCESS,DELAY", f"ORCPT={ORCPT}")
    await hops.send("Someone@full.example", PLAIN, *parameters)
    await until(lambda: len(hops.full.delivered) == 1)
    (passed_on,) = hops.full.delivered
    assert f"ENVID={ENVID}" in passed_on.mail.split()
    assert "RET=HDRS" in passed_on.mail.split()
    assert f"ORCPT={ORCPT}" in passed_on.recipients[0].split()
    assert "NOTIFY=SUCCESS,DELAY" in passed_on.recipients[0].split()
    # Nobody but the last host that knows of it tells of success: neither we nor Postfix did here.
    assert of_null_sender(hops.full) == []
    await hops.send("Someone@bare.example", PLAIN, *parameters)
    await until(lambda: len(hops.bare.delivered) == 1 and len(of_null_sender(hops.full)) == 1)
    (passed_on,) = hops.bare.delivered
    assert "ENVID" not in passed_on.mail
    assert "NOTIFY" not in passed_on.recipients[0]
    (notice,) = of_null_sender(hops.full)
    assert notice.recipients[0].startswith("RCPT TO:<Sender@full.example>")
    assert b"Action: relayed" in notice.data
    assert b"Original-Envelope-Id: QQ+Abc314159" in notice.data
    assert b"Original-Recipient: rfc822;Bob+X@Orig.Example" in notice.data
    assert b"secret text" not in notice.data


async def test_what_needs_an_extension_goes_only_to_who_offers_it(hops: Hops) -> None:
    await hops.send("jörg@full.example", EIGHT, ("SMTPUTF8", "BODY=8BITMIME"))
    await until(lambda: len(hops.full.delivered) == 1)
    (passed_on,) = hops.full.delivered
    assert "SMTPUTF8" in passed_on.mail.split()
    assert "BODY=8BITMIME" in passed_on.mail.split()
    assert passed_on.recipients[0].startswith("RCPT TO:<jörg@full.example>")
    assert passed_on.data.endswith(EIGHT.partition(b"\r\n\r\n")[2])
    assert b"with UTF8SMTP id " in passed_on.data
    for number, (to, mail, status) in enumerate(
        (
            ("jörg@bare.example", ("SMTPUTF8",), b"5.6.7"),
            ("someone@bare.example", ("BODY=8BITMIME",), b"5.6.3"),
        ),
        start=1,
    ):
        await hops.send(to, EIGHT, mail)
        await until(lambda number=number: len(of_null_sender(hops.full)) == number)
        assert b"Status: " + status in of_null_sender(hops.full)[-1].data
    await hops.send(
        "someone@bare.example", PLAIN, ("SMTPUTF8", "BODY=8BITMIME")
    )  # which it turns out not to need
    await until(lambda: len(hops.bare.delivered) == 1)
    assert hops.bare.delivered[0].recipients[0].startswith("RCPT TO:<someone@bare.example>")
