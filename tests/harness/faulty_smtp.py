"""An SMTP server that does one thing wrong, by name, and keeps every byte that it was sent, in clear and after TLS.

The oracle of the delivery tests: what went over the wire, not what the sender says of it. Real sockets on
loopback, in the test's own event loop.
"""

import asyncio
import base64
import contextlib
import os
import ssl
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

Fault = Literal[
    "",
    "greeting 421",
    "greeting 554",
    "greeting garbage",
    "closes at once",
    "no greeting",
    "EHLO unknown",
    "EHLO unanswered",
    "EHLO 421",
    "EHLO closes",
    "STARTTLS not offered",
    "STARTTLS 454",
    "STARTTLS 454, then closes",
    "STARTTLS 421",
    "STARTTLS 501",
    "STARTTLS garbage",
    "closes on STARTTLS",
    "STARTTLS unanswered",
    "closes after 220",
    "half a 220",
    "silent after 220",
    "closes in the handshake",
    "old protocol only",
    "weak cipher only",
    "clear text after 220",
    "injects after 220",
    "closes after handshake",
    "EHLO refused after handshake",
    "MAIL 451",
    "MAIL 550",
    "RCPT 550 for bad",
    "RCPT 451 for bad",
    "RCPT 550",
    "RCPT 451",
    "DATA 554",
    "DATA 451",
    "message 451",
    "message 554",
    "closes on MAIL",
    "closes on RCPT",
    "closes on DATA",
    "MAIL 421",
    "250 before the text",
    "250 in the text",
    "closes before the end of data",
    "closes after the end of data",
]
KEYWORDS = ("PIPELINING", "SIZE 10000000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")


@dataclass
class Session:
    """One connection, as the server saw it."""

    clear: bytearray = field(default_factory=bytearray)
    """All that came before TLS, or without."""
    encrypted: bytearray = field(default_factory=bytearray)
    """All that came inside TLS."""
    tls: bool = False
    """Whether the handshake was done."""
    asked_220: bool = False
    """Whether STARTTLS was answered with 220."""
    sni: str | None = None
    client_certificate: bytes | None = None
    """DER."""

    @property
    def commands(self) -> list[str]:
        """The lines that came, without the handshake's bytes."""
        text = bytes(self.encrypted) if self.tls else bytes(self.clear)
        return text.decode("utf-8", "replace").splitlines()


@dataclass(frozen=True)
class Delivered:
    """A message that got its 250."""

    mail: str
    recipients: tuple[str, ...]
    data: bytes
    """As it came, dots unstuffed."""
    tls: bool


class FaultySMTP:
    """A server on loopback. Use as an async context manager; attributes may be changed while it runs."""

    def __init__(
        self,
        certificate: bytes | None = None,
        *,
        fault: Fault = "",
        keywords: tuple[str, ...] = KEYWORDS,
        address: str = "127.0.0.1",
        port: int = 0,
        implicit_tls: bool = False,
        client_ca: bytes | None = None,
    ) -> None:
        """`certificate`: key and chain, PEM; without it STARTTLS is not offered."""
        self.fault: Fault = fault
        self.keywords = keywords
        self.address = address
        self.port = port
        self.sessions: list[Session] = []
        self.delivered: list[Delivered] = []
        self.quit_after: int | None = None
        """Answer 421 to MAIL after so many messages on a connection."""
        self.logins: dict[str, str] = {}
        """Who may sign in, by password; with any, mail is taken only after AUTH."""
        self.mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
        self.initial_response = True
        """Whether AUTH PLAIN is taken with the response in the same line."""
        self.pause = 0.0
        """Seconds before the reply to a message."""
        self.most_open = 0
        """The most connections that there were at one time."""
        self._implicit = implicit_tls
        self._client_ca = client_ca
        self._certificate = certificate
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        # TLS from the first byte: the first bytes may be here before a handler could begin to take them.
        context = self._context(Session()) if self._implicit else None
        self._server = await asyncio.start_server(
            self._connected, self.address, self.port, limit=32 << 20, ssl=context
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop_listening(self) -> None:
        """Nobody can connect any more."""
        assert self._server is not None
        self._server.close()

    def hang_up(self) -> None:
        """Close all connections."""
        for task in self._tasks:
            task.cancel()

    def use_certificate(self, certificate: bytes | None) -> None:
        """Serve another one from the next connection on; None: offer no STARTTLS."""
        self._certificate = certificate

    @property
    def clear(self) -> bytes:
        """All that ever came in clear text."""
        return b"".join(bytes(session.clear) for session in self.sessions)

    def said(self, word: bytes) -> bool:
        """Whether `word` ever came in clear text."""
        return word in self.clear

    def _context(self, session: Session) -> ssl.SSLContext:
        assert self._certificate is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with contextlib.ExitStack() as undo:
            descriptor, name = tempfile.mkstemp()
            undo.callback(Path(name).unlink)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self._certificate)
            context.load_cert_chain(name)
        if self._client_ca is not None:
            context.load_verify_locations(cadata=self._client_ca.decode())
            context.verify_mode = ssl.CERT_OPTIONAL

        def asked(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
            session.sni = name

        if self.fault == "old protocol only":
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # old on purpose
                context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        if self.fault == "weak cipher only":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers("ECDHE-ECDSA-AES128-SHA256")
        context.sni_callback = asked  # pyright: ignore[reportAttributeAccessIssue]
        return context

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.most_open = max(self.most_open, len(self._tasks))
        session = Session()
        self.sessions.append(session)
        try:
            await _Conversation(self, session, reader, writer).run()
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError, _Closed):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    @property
    def offers_tls(self) -> bool:
        """Whether STARTTLS is among the keywords."""
        return self._certificate is not None and self.fault != "STARTTLS not offered"

    @property
    def implicit_tls(self) -> bool:
        """Whether TLS begins with the first byte."""
        return self._implicit

    def context(self, session: Session) -> ssl.SSLContext:
        """A context for this session."""
        return self._context(session)


class _Closed(Exception):  # noqa: N818 - the server hangs up
    pass


class _Conversation:
    def __init__(
        self,
        server: FaultySMTP,
        session: Session,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._server, self._session, self._reader, self._writer = server, session, reader, writer
        self._mail = ""
        self._recipients: list[str] = []
        self._messages = 0
        self._signed_in = False
        self._closing = False

    async def run(self) -> None:
        fault = self._server.fault
        if self._server.implicit_tls:
            self._encrypted()
        if fault == "closes at once":
            return
        if fault == "no greeting":
            await self._swallow()
        greetings: Mapping[str, str] = {
            "greeting 421": "421 4.3.2 later",
            "greeting 554": "554 5.7.1 no",
            "greeting garbage": "HTTP/1.1 400 Bad Request",
        }
        await self._say(greetings.get(fault, "220 faulty.example ESMTP"))
        while True:
            line = await self._line()
            verb = line.partition(" ")[0].upper()
            if verb == "STARTTLS":
                await self._starttls()
            elif verb == "QUIT":
                await self._say("221 2.0.0 bye")
                return
            elif verb == "DATA":
                await self._data()
            elif verb == "AUTH":
                await self._say(await self._auth(line))
            else:
                await self._say(await self._answer(verb, line))

    async def _answer(self, verb: str, line: str) -> str:
        fault, tls = self._server.fault, self._session.tls
        if self._closing:
            return "421 4.7.0 closing"
        if verb == "EHLO":
            if fault == "EHLO unanswered":
                await self._swallow()
            if fault == "EHLO closes" and not tls:
                raise _Closed
            if fault == "EHLO 421" and not tls:
                return "421 4.3.2 not now"
            if fault == "EHLO unknown" and not tls:
                return "502 5.5.1 what"
            if fault == "EHLO refused after handshake" and tls:
                return "554 5.7.1 not with you"
            if fault == "closes after handshake" and tls:
                raise _Closed
            extra = ("STARTTLS",) if self._server.offers_tls and not tls else ()
            if self._server.logins and tls:
                extra = (*extra, f"AUTH {' '.join(self._server.mechanisms)}")
            lines = ["faulty.example", *self._server.keywords, *extra]
            return "\r\n".join([*(f"250-{one}" for one in lines[:-1]), f"250 {lines[-1]}"])
        if verb == "MAIL":
            return self._take_mail(line)
        if verb == "RCPT":
            return self._take_recipient(line)
        if verb == "RSET":
            self._mail, self._recipients = "", []
        return "250 2.0.0 ok"

    async def _auth(self, line: str) -> str:
        parts = line.split(" ")
        if parts[1] == "PLAIN":
            said = parts[2] if len(parts) > 2 and self._server.initial_response else await self._challenge("")
            _, name, password = base64.b64decode(said).decode().split("\0")
        else:
            name = base64.b64decode(await self._challenge("VXNlcm5hbWU6")).decode()
            said = await self._challenge("UGFzc3dvcmQ6")
            password = base64.b64decode(said).decode()
        self._signed_in = self._server.logins.get(name) == password
        return "235 2.7.0 welcome" if self._signed_in else f"535 5.7.8 no: {said} is {password}"

    async def _challenge(self, text: str) -> str:
        await self._say(f"334 {text}")
        return await self._line()

    def _take_mail(self, line: str) -> str:
        fault = self._server.fault
        if fault == "closes on MAIL":
            raise _Closed
        if fault == "MAIL 421":
            return "421 4.3.2 later"
        if self._server.logins and not self._signed_in:
            return "530 5.7.0 sign in first"
        if self._server.quit_after is not None and self._messages >= self._server.quit_after:
            return "421 4.7.0 enough"
        if fault == "MAIL 451":
            return "451 4.3.0 later"
        if fault == "MAIL 550":
            return "550 5.7.1 not from you"
        self._mail, self._recipients = line, []
        return "250 2.1.0 ok"

    def _take_recipient(self, line: str) -> str:
        fault = self._server.fault
        if not self._mail:
            return "503 5.5.1 MAIL first"
        if fault == "closes on RCPT":
            raise _Closed
        if fault == "RCPT 550" or (fault == "RCPT 550 for bad" and "<bad" in line):
            return "550 5.1.1 unknown"
        if fault == "RCPT 451" or (fault == "RCPT 451 for bad" and "<bad" in line):
            return "451 4.2.1 busy"
        self._recipients.append(line)
        return "250 2.1.5 ok"

    async def _data(self) -> None:
        fault = self._server.fault
        if fault == "DATA 554" or not self._recipients:
            await self._say("554 5.5.1 no valid recipients")
            return
        if fault == "DATA 451":
            await self._say("451 4.3.0 later")
            return
        if fault == "closes on DATA":
            raise _Closed
        await self._say("354 go on\r\n250 2.0.0 taken" if fault == "250 before the text" else "354 go on")
        if fault == "250 in the text":
            await self._line()
            await self._say("250 2.0.0 taken")
            await self._swallow()
        if fault == "closes before the end of data":
            await self._line()
            raise _Closed
        lines: list[bytes] = []
        while (line := await self._raw()) != b".\r\n":
            lines.append(line[1:] if line.startswith(b".") else line)
        if fault == "closes after the end of data":
            raise _Closed
        if self._server.pause:
            await asyncio.sleep(self._server.pause)
        replies: Mapping[str, str] = {"message 451": "451 4.3.0 later", "message 554": "554 5.6.0 no"}
        reply = replies.get(fault, "250 2.0.0 taken")
        if reply.startswith("250"):
            self._messages += 1
            self._server.delivered.append(
                Delivered(self._mail, tuple(self._recipients), b"".join(lines), self._session.tls)
            )
        self._mail, self._recipients = "", []
        await self._say(reply)

    async def _starttls(self) -> None:
        fault = self._server.fault
        refusals: Mapping[str, str] = {
            "STARTTLS 454": "454 4.7.0 not now",
            "STARTTLS 454, then closes": "454 4.7.0 not now",
            "STARTTLS 421": "421 4.7.0 not now, closing",
            "STARTTLS 501": "501 5.5.4 no",
            "STARTTLS garbage": "hello there",
        }
        if fault in refusals:
            await self._say(refusals[fault])
            if fault == "STARTTLS 454, then closes":
                raise _Closed
            if fault == "STARTTLS 421":  # and everything else is, too, until QUIT
                self._closing = True
            return
        if fault == "closes on STARTTLS":
            raise _Closed
        if fault == "STARTTLS unanswered":
            await self._swallow()
        if fault == "half a 220":
            self._writer.write(b"220 go")
            await self._writer.drain()
            raise _Closed
        injected = "\r\n250 2.0.0 injected" if fault == "injects after 220" else ""
        self._session.asked_220 = True
        await self._say("220 2.0.0 go ahead" + injected)
        if fault == "closes after 220":
            raise _Closed
        if fault == "silent after 220":
            await self._swallow()
        if fault == "closes in the handshake":
            await self._reader.read(100)
            raise _Closed
        if fault == "clear text after 220":
            self._writer.write(b"250 2.0.0 this is no handshake\r\n" * 3)
            await self._swallow()
        await self._handshake()

    async def _handshake(self) -> None:
        await self._writer.start_tls(self._server.context(self._session), ssl_handshake_timeout=10)
        self._encrypted()

    def _encrypted(self) -> None:
        session: ssl.SSLObject = self._writer.get_extra_info("ssl_object")
        self._session.tls = True
        self._session.client_certificate = session.getpeercert(binary_form=True)

    async def _say(self, text: str) -> None:
        self._writer.write(text.encode() + b"\r\n")
        await self._writer.drain()

    async def _line(self) -> str:
        return (await self._raw()).decode("utf-8", "replace").rstrip("\r\n")

    async def _raw(self) -> bytes:
        line = await self._reader.readline()
        (self._session.encrypted if self._session.tls else self._session.clear).extend(line)
        if not line:
            raise _Closed
        return line

    async def _swallow(self) -> None:
        """Say nothing more; keep what comes."""
        while data := await self._reader.read(4096):
            (self._session.encrypted if self._session.tls else self._session.clear).extend(data)
        raise _Closed
