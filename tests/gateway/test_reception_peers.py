"""Reception from real clients: a Postfix that insists on verified TLS, and openssl."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.gateway.receiving import listener, receiving, running_set
from tests.harness import programs, waiting
from tests.harness.certificates import Authority
from tests.harness.postfix import Postfix

AUTHORITY = Authority()
PAIR = AUTHORITY.issue("mx.here.example")


@pytest.mark.parametrize("mode", ["Preferred", "Required"])
async def test_postfix_delivers_over_verified_tls(tmp_path: Path, mode: str):
    async with receiving(tmp_path) as world:
        one = listener(world.port, certificates=[PAIR], policy={"tls_mode": mode})
        await world.reception.apply(running_set(one, certificates=[PAIR]))
        message = (
            b"Subject: from Postfix\r\n\r\n.dot\r\n..dots\r\n\r\n" + "ü\r\n".encode() + b"x" * 900 + b"\r\n"
        )

        def send() -> None:
            with Postfix.sending(world.port, ca=AUTHORITY.pem, match=["mx.here.example"]) as postfix:
                postfix.submit(message, to=["one@here.example", "two@here.example"])
                waiting.until(lambda: postfix.log.count("status=sent") == 2, seconds=60, what="both sent")

        await asyncio.to_thread(send)
        found = await world.stored()
        assert sorted(queued.address for queued in found) == ["one@here.example", "two@here.example"]
        assert {queued.received_protocol for queued in found} == {"TLSv1.3"}
        assert {(queued.sender, queued.body_8bit) for queued in found} == {("sender@client.example", True)}
        body = await world.spool.body(found[0].mid)
        assert body.endswith(message.partition(b"\r\n\r\n")[2])
        assert b"by mx.here.example with ESMTPS id " in body


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_openssl_verifies_the_chain_and_speaks_to_the_session_behind(tmp_path: Path, version: str):
    ca = tmp_path / "ca.pem"
    ca.write_bytes(AUTHORITY.pem)
    async with receiving(tmp_path) as world:
        one = listener(world.port, certificates=[PAIR], policy={"tls_mode": "Required"})
        await world.reception.apply(running_set(one, certificates=[PAIR]))
        command = [
            str(programs.require("openssl")),
            "s_client",
            "-connect",
            f"127.0.0.1:{world.port}",
            version,
        ]
        command += ["-starttls", "smtp", "-CAfile", str(ca), "-verify_return_error", "-crlf", "-quiet"]
        command += ["-verify_hostname", "mx.here.example"]
        child = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert child.stdin is not None
        assert child.stdout is not None
        async with asyncio.timeout(30):
            # openssl itself says EHLO and STARTTLS, and shows the last line of the reply to its EHLO.
            seen = await child.stdout.readuntil(b"250 ENHANCEDSTATUSCODES\r\n")
            assert b"verify error" not in seen
            for line, reply in (
                (b"EHLO x\n", b"250 ENHANCEDSTATUSCODES\r\n"),
                (b"MAIL FROM:<>\n", b"Sender ok\r\n"),
            ):
                child.stdin.write(line)
                answer = await child.stdout.readuntil(reply)
                assert b"STARTTLS" not in answer
            child.stdin.write(b"quit\n")
            assert b"221 2.0.0 Goodbye" in await child.stdout.read()
            await child.wait()
