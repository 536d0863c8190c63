"""What an honest client notices while strangers attack: time for a session with STARTTLS and a small message.

Attackers run in a process of their own and take processor time from everybody, so a little more than alone is theirs.
"""

import asyncio
import contextlib
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.bench.report import Report
from tests.harness import mounts, ports
from tests.harness.attacks import ATTACKS
from tests.harness.certificates import Authority
from tests.harness.member import Member
from tests.harness.mounts import Files

ATTACKERS: Final = 20
_MAIL: Final = (b"MAIL FROM:<a@client.example>\r\n", b"RCPT TO:<u@here.example>\r\n", b"DATA\r\n")
_TEXT: Final = b"Subject: small\r\n\r\n" + b"a line of an honest message\r\n" * 40 + b".\r\n"


def measure(report: Report, seconds: float) -> None:
    """Alone first, then during each attack."""
    with tempfile.TemporaryDirectory(prefix="letterlock-bench-") as folder:
        member = Member(Path(folder), workers=2)
        port = ports.free_port()
        files = Files()
        served = files.certificate(Authority().issue("mx.here.example"))
        policy = mounts.policy(tls_mode="Preferred", max_connections_per_host=1000)
        listener = mounts.listener(port, policies=[policy], certificates=[served])
        with member:
            member.wait_running(member.mount.publish(mounts.snapshot(files, listeners=[listener]), files))
            asyncio.run(_sessions(port, 1.0))  # what is made once is made now
            _tell(report, "alone", asyncio.run(_sessions(port, seconds)))
            for name in ATTACKS:
                with _attack(name, port):
                    _tell(report, f"during {name.replace('_', ' ')}", asyncio.run(_sessions(port, seconds)))


@contextmanager
def _attack(name: str, port: int) -> Generator[None]:
    command = [sys.executable, "-m", "tests.harness.attacks", name, str(port), str(ATTACKERS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as attackers:
        try:
            assert attackers.stdout is not None
            attackers.stdout.readline()  # it has begun
            time.sleep(0.5)  # and is under way
            yield
        finally:
            attackers.kill()


def _tell(report: Report, what: str, times: list[float]) -> None:
    hundredths = statistics.quantiles([one * 1000 for one in times], n=100, method="inclusive")
    report.single(f"{what}: 50th percentile of {len(times)} sessions", hundredths[49], "ms")
    report.single(f"{what}: 99th", hundredths[98], "ms")


async def _sessions(port: int, seconds: float) -> list[float]:
    """One after the other for so long; how long each took. Raises where one was not served."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(times) < 2:
        began = time.monotonic()
        await _session(port, context)
        times.append(time.monotonic() - began)
    return times


async def _session(port: int, context: ssl.SSLContext) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))

    async def expect(code: bytes, data: bytes = b"") -> None:
        writer.write(data)
        while (line := await asyncio.wait_for(reader.readline(), 60))[3:4] == b"-":
            pass
        if not line.startswith(code):
            raise RuntimeError(f"{data[:20]!r} was answered {line!r}")

    await expect(b"220")
    await expect(b"250", b"EHLO client.example\r\n")
    await expect(b"220", b"STARTTLS\r\n")
    await writer.start_tls(context)
    await expect(b"250", b"EHLO client.example\r\n")
    for line in _MAIL:
        await expect(b"354" if line.startswith(b"DATA") else b"250", line)
    await expect(b"250", _TEXT)
    await expect(b"221", b"QUIT\r\n")
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        await writer.wait_closed()
