"""openssl and gnutls-cli as SMTP clients: they shake hands behind STARTTLS, then pass lines on."""

import asyncio
import contextlib
import re
import subprocess
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from tests.harness import programs

Program = Literal["openssl", "gnutls-cli"]
# What each says before the lines of the session behind TLS.
_OPENED: Final = {"openssl": b"250 ENHANCEDSTATUSCODES\r\n", "gnutls-cli": b"- Simple Client Mode:\n"}
_REPLY: Final = re.compile(rb"^\d\d\d(?: .*)?\r?$")


def shown(address: str, port: int, *options: str) -> str:
    """What openssl prints of a listener with STARTTLS: its certificate, PEM, with subject and issuer."""
    done = subprocess.run(
        ("openssl", "s_client", "-starttls", "smtp", "-connect", f"{address}:{port}", *options),
        input="QUIT\r\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


@dataclass
class Behind:
    """The session behind TLS, through a program."""

    child: asyncio.subprocess.Process
    seen: list[bytes] = field(default_factory=list[bytes])
    """All that the program has written."""

    async def ask(self, line: str) -> str:
        """The last line of the reply to `line`; empty: there was none before the end of the connection."""
        assert self.child.stdin is not None
        with contextlib.suppress(ConnectionError, RuntimeError):  # RuntimeError: uvloop's, of a closed pipe
            self.child.stdin.write(line.encode() + b"\n")
            await self.child.stdin.drain()
        while text := await self._line():
            if _REPLY.match(text.rstrip(b"\n")):
                return text.decode().strip()
        return ""

    async def send(self, *, to: str = "u@here.example") -> str:
        """Up to RCPT: the first reply that is no yes, or the reply to RCPT; empty: the connection was closed."""
        answer = ""
        for line in ("EHLO client.example", "MAIL FROM:<a@b.example>", f"RCPT TO:<{to}>"):
            answer = await self.ask(line)
            if not answer.startswith("250"):
                break
        return answer

    @property
    def text(self) -> str:
        """All that the program has written, as text."""
        return b"".join(self.seen).decode(errors="replace")

    async def opened(self, program: Program) -> bool:
        """Wait for the session behind TLS; False: there is none."""
        while text := await self._line():
            if text == _OPENED[program]:
                return True
        return False

    async def _line(self) -> bytes:
        assert self.child.stdout is not None
        async with asyncio.timeout(60):
            text = await self.child.stdout.readline()
        self.seen.append(text)
        return text


@contextlib.asynccontextmanager
async def behind_tls(
    program: Program,
    port: int,
    *,
    pem: Path | None = None,
    sni: str = "mx.here.example",
    options: Sequence[str] = (),
) -> AsyncGenerator[Behind]:
    """A session behind STARTTLS on `port` of loopback. `pem`: key and chain to present; `options` as they stand.

    Whether the handshake came about shows in what is answered: with TLS 1.3 a client takes it for good before the
    server has judged its certificate.
    """
    if program == "openssl":
        command = ["s_client", "-connect", f"127.0.0.1:{port}", "-starttls", "smtp", "-crlf", "-quiet"]
        command += ["-servername", sni] if sni else ["-noservername"]
        command += ["-cert", str(pem), "-key", str(pem), "-cert_chain", str(pem)] if pem else []
    else:
        command = ["--starttls-proto=smtp", "--insecure", "--crlf", "-p", str(port)]
        command += [f"--sni-hostname={sni}"] if sni else []
        command += [f"--x509certfile={pem}", f"--x509keyfile={pem}"] if pem else []
    child = await asyncio.create_subprocess_exec(
        str(programs.require(program)),
        *command,
        *options,
        *(["127.0.0.1"] if program == "gnutls-cli" else []),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield Behind(child)
    finally:
        if child.stdin is not None:
            child.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        await child.wait()
