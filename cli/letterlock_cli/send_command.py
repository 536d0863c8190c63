"""`letterlock send-test`: one small message to a listener, and what it answered. Called by `main`.

`helm test` runs it in a pod, so the listener is reached as any client in the cluster reaches it.
"""

import asyncio
import time
from email.message import EmailMessage
from email.utils import format_datetime, localtime, make_msgid
from typing import Annotated, Final, Literal

import typer

from letterlock_cli.failures import CommandError
from letterlock_cli.progress import shown

TLS = Literal["none", "offered", "starttls", "smtps"]
# A gateway that was installed a moment ago is on its way.
_PATIENCE: Final = 120.0
_RETRY_EVERY: Final = 2.0
_TIMEOUT: Final = 30.0


def send_test(
    server: Annotated[str, typer.Argument(metavar="HOST:PORT", help="The listener.")],
    *,
    to: Annotated[str, typer.Option(metavar="ADDR", help="Envelope recipient.")],
    sender: Annotated[
        str, typer.Option("--from", metavar="ADDR", help="Envelope sender. Default: the null sender.")
    ] = "",
    tls: Annotated[
        TLS, typer.Option(help="none, offered: where the listener offers it, starttls, smtps.")
    ] = "offered",
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to go on trying while the listener is not there or busy.")
    ] = _PATIENCE,
) -> None:
    r"""Send a small message to a listener, to see that it takes mail.

    The listener's certificate is not verified: this looks at the listener, not at whom others trust.

    \b
    Example:
      letterlock send-test letterlock-inbound.mail.svc:25 --to postmaster@example.com --tls starttls
    """
    host, colon, port = server.rpartition(":")
    if not colon or not port.isdecimal():
        raise CommandError(f"{server}: write HOST:PORT, as in letterlock-inbound.mail.svc:25")
    with shown(f"sending to {server}"):
        said, over = _until_sent(host.strip("[]"), int(port), sender, to, tls, patience)
    print(f"accepted for {to} over {over}: {said}")


def _until_sent(host: str, port: int, sender: str, to: str, tls: TLS, patience: float) -> tuple[str, str]:
    """Send it as soon as that works. Gives the final reply, and over which TLS. Raises CommandError."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return asyncio.run(_send(host, port, sender, to, tls))
        except _NotNow as problem:
            if time.monotonic() + _RETRY_EVERY > deadline:
                raise CommandError(f"{host}:{port}: {problem}") from None
            time.sleep(_RETRY_EVERY)


class _NotNow(Exception):  # noqa: N818 - says what happened
    """It may work a little later. The text says what did not."""


async def _send(host: str, port: int, sender: str, to: str, tls: TLS) -> tuple[str, str]:
    """Send it. Gives the final reply, and over which TLS. Raises _NotNow, CommandError."""
    import aiosmtplib

    client = aiosmtplib.SMTP(
        hostname=host,
        port=port,
        use_tls=tls == "smtps",
        start_tls={"none": False, "offered": None, "starttls": True, "smtps": False}[tls],
        validate_certs=False,
        timeout=_TIMEOUT,
    )
    try:
        async with client:
            over = "clear text"
            if (made := client.get_transport_info("ssl_object")) is not None:
                over = f"{made.version()} {made.cipher()[0]}"
            await client.mail(sender, encoding="ascii")
            await client.rcpt(to, encoding="ascii")
            reply = await client.data(_message(sender, to))
    except aiosmtplib.SMTPResponseException as error:
        told = f"it answered {error.code} {error.message}"
        if 400 <= error.code < 500:
            raise _NotNow(told) from error
        raise CommandError(f"{host}:{port}: {told}") from error
    except (aiosmtplib.SMTPException, OSError) as error:
        raise _NotNow(str(error) or type(error).__name__) from error
    return f"{reply.code} {reply.message}", over


def _message(sender: str, to: str) -> bytes:
    message = EmailMessage()
    message["From"] = sender or f"letterlock test <{to}>"
    message["To"] = to
    message["Subject"] = "Letterlock test message"
    message["Date"] = format_datetime(localtime())
    message["Message-ID"] = make_msgid(domain="test.letterlock.invalid")
    # Nobody answers a test (RFC 3834, section 5).
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("This message was sent to see whether the gateway takes mail. It does.\n")
    return message.as_bytes()
