# ruff: noqa: INP001, T201 - a script that prints
"""A small mail server that only receives: here the quickstart's mail ends, and nothing leaves this machine.

    python examples/receiver.py STATE [PORT]

STATE is the state directory of `letterlock up examples/quickstart`. The receiver waits until Letterlock has
made the certificate `mailbox` there, offers STARTTLS with it, writes each message to STATE/mailbox/ as it
came, and prints one line about it. A demonstration: it keeps whatever it is sent.
"""

import asyncio
import contextlib
import itertools
import ssl
import sys
import time
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

HOST = "localhost"
PORT = 2526
SECRET = "letterlock-cert-mailbox"  # noqa: S105 - the name of a Secret, not one


class Mailbox:
    """Writes messages to a directory, one file each."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.numbers = itertools.count(1)

    async def handle_DATA(self, _: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        """Keep one message."""
        content = envelope.content
        if not isinstance(content, bytes):
            return "554 5.6.0 No message"
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{next(self.numbers):04}.eml"
        await asyncio.to_thread((self.directory / name).write_bytes, content)
        how = tls_of(session)
        to = ", ".join(str(recipient) for recipient in envelope.rcpt_tos)
        print(
            f"received: from <{envelope.mail_from or ''}> to <{to}> {how}: {self.directory / name}",
            flush=True,
        )
        return "250 2.0.0 Kept"


def tls_of(session: Session) -> str:
    """How the message came."""
    transport: ssl.SSLObject | None = (session.ssl or {}).get("ssl_object")
    cipher = transport.cipher() if transport else None
    return f"over {cipher[1]} {cipher[0]}" if cipher else "in clear text"


class Certificate:
    """The certificate in `secret`, read again when Letterlock has replaced it."""

    def __init__(self, secret: Path) -> None:
        self.secret = secret
        self.loaded: tuple[Path, ssl.SSLContext] | None = None

    def there(self) -> bool:
        """Whether it has been made."""
        return (self.secret / "tls.key").exists() and (self.secret / "tls.crt").exists()

    def context(self) -> ssl.SSLContext:
        """A context that serves the certificate as it is now."""
        now = self.secret.resolve()
        if self.loaded is None or self.loaded[0] != now:
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            made.load_cert_chain(now / "tls.crt", now / "tls.key")
            self.loaded = now, made
        return self.loaded[1]


async def main(state: Path, port: int) -> None:
    """Receive until interrupted."""
    certificate = Certificate(state / "secrets" / SECRET)
    while not certificate.there():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.2)
    mailbox = Mailbox(state / "mailbox")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(
            mailbox, hostname="mailbox.example.com", tls_context=certificate.context(), enable_SMTPUTF8=True
        ),
        HOST,
        port,
    )
    print(f"the receiver waits on {HOST}:{port}; mail goes to {mailbox.directory}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit(__doc__)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else PORT))
