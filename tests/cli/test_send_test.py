"""`letterlock send-test` against a real listener: what `helm test` relies on."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.receiving import Receiving, listener, receiving, running_set
from tests.harness.certificates import Authority

AUTHORITY = Authority()
PAIR = AUTHORITY.issue("mx.here.example")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Receiving]:
    async with receiving(tmp_path) as made:
        yield made


async def serve(world: Receiving, mode: str, **fields: object) -> None:
    one = listener(world.port, certificates=[PAIR], policy={"tls_mode": mode}, **fields)  # pyright: ignore[reportArgumentType]
    [state] = await world.reception.apply(running_set(one, certificates=[PAIR], ca=AUTHORITY.pem))
    assert state.listening, state.problem


async def send(world: Receiving, *options: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "letterlock_cli", "send-test", f"127.0.0.1:{world.port}", *options)
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("mode", "tls", "protocol", "over"),
    [
        ("Required", "starttls", "SMTP", "TLSv1.3"),
        ("Preferred", "offered", "SMTP", "TLSv1.3"),
        ("No", "offered", "SMTP", "clear text"),
        ("No", "none", "SMTP", "clear text"),
        ("No", "smtps", "SMTPS", "TLSv1.3"),
    ],
)
async def test_a_message_is_taken(world: Receiving, mode: str, tls: str, protocol: str, over: str) -> None:
    await serve(world, mode, protocol=protocol)
    done = await send(world, "--to=postmaster@here.example", f"--tls={tls}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"accepted for postmaster@here.example over {over}")
    assert ": 250 " in done.stdout
    [one] = await world.stored()
    assert b"Subject: Letterlock test message" in await world.spool.body(one.mid)


@pytest.mark.parametrize(
    ("mode", "options", "said"),
    [
        pytest.param("Preferred", ("--to=u@elsewhere.example",), "it answered 550", id="no relaying"),
        pytest.param(
            "Required", ("--to=u@here.example", "--tls=none"), "it answered 530", id="TLS is required"
        ),
        pytest.param("No", ("--to=u@here.example", "--tls=starttls"), "STARTTLS", id="no TLS is offered"),
    ],
)
async def test_a_refusal_fails_in_one_line(
    world: Receiving, mode: str, options: tuple[str, ...], said: str
) -> None:
    await serve(world, mode)
    done = await send(world, *options, "--patience=0")
    assert done.returncode == 1
    assert done.stderr.startswith("error: 127.0.0.1:")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert await world.stored() == []


async def test_a_listener_that_comes_up_late_is_waited_for(world: Receiving) -> None:
    sending = asyncio.create_task(send(world, "--to=postmaster@here.example", "--patience=90"))
    nobody = await send(world, "--to=postmaster@here.example", "--patience=0")
    assert nobody.returncode == 1
    await serve(world, "No")
    assert (await sending).returncode == 0


async def test_an_address_without_a_port_is_wrong(world: Receiving) -> None:
    command = (sys.executable, "-m", "letterlock_cli", "send-test", "localhost", "--to=a@b.example")
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "write HOST:PORT" in done.stderr
