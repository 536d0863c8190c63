"""What a member answers: `/state` to the operator, `/handover` and `/look` to other members (mutual TLS).

Health and metrics to whoever asks. Run by the supervisor. A few questions without parameters are no reason to load a
web framework (0.2 s of every start): HTTP/1.1, one answer per connection.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Self, cast

from letterlock_api.state import (
    HANDOVER_PATH,
    INTERNAL_CLIENT_NAME,
    INTERNAL_SERVER_NAME,
    LOOK_PATH,
    STATE_PATH,
)
from letterlock_gateway.manage.stored import NotStored
from letterlock_gateway.mount import Identity
from letterlock_gateway.report.metrics import CONTENT_TYPE
from letterlock_gateway.tls import contexts

# A client that is slower than that is none of ours; its connection is not kept.
_SECONDS: Final = 5.0
_HEAD_LIMIT: Final = 16384
# The same for a message that another member hands over, and its size at most: whatever a listener may take, and its
# recipients. So many are in memory at a time.
_LETTER_SECONDS: Final = 120.0
_LETTER_LIMIT: Final = 1 << 30
_LETTERS: Final = 8
# The same for a question of another member's pages.
_LOOK_SECONDS: Final = 15.0
_LOOK_LIMIT: Final = 16384
_LOOKS: Final = 8
_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    503: "Service Unavailable",
}


class NotAnswered(Exception):  # noqa: N818 - says what is
    """A question of another member's pages that is not answered. The text says why."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    kind: str = "text/plain; charset=utf-8"


type Respond = Callable[[str, asyncio.StreamWriter], Answer]
type Look = Callable[[bytes], Awaitable[bytes]]
"""Answers a question of another member's pages; raises NotAnswered."""
type Take = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[Answer]]


@dataclass(frozen=True)
class Facts:
    """Where the answers come from."""

    state: Callable[[], bytes]
    """The state as JSON."""
    ready: Callable[[], bool]
    adopt: Callable[[bytes], Awaitable[int]]
    """Takes a message that another member hands over, and gives its number; raises NotStored."""
    metrics: Callable[[], bytes]
    """As Prometheus reads them."""
    look: Look


class Endpoints:
    """Both endpoints. Made by `open`, which binds them."""

    def __init__(self, state: socket.socket, health: socket.socket, facts: Facts) -> None:
        self._state_socket = state
        self._health_socket = health
        self._facts = facts
        self._state: asyncio.Server | None = None
        self._health: asyncio.Server | None = None
        self._identity: Identity | None = None
        self._letters = asyncio.Semaphore(_LETTERS)
        self._looks = asyncio.Semaphore(_LOOKS)

    @classmethod
    async def open(cls, address: str, state_port: int, health_port: int, facts: Facts) -> Self:
        """Bind both ports at `address` (empty: all), and answer on the health port. Raises OSError."""
        with contextlib.ExitStack() as undo:
            state = undo.enter_context(_bind(address, state_port))
            health = undo.enter_context(_bind(address, health_port))
            endpoints = cls(state, health, facts)
            endpoints._health = await _start(health, endpoints._answer_health)
            undo.pop_all()
            return endpoints

    async def use(self, identity: Identity) -> None:
        """Answer `/state` as `identity` from now on. Raises BadCertificate: then all stays as it was."""
        if identity == self._identity:
            return
        context = contexts.server_context(
            identity.certificate,
            min_version="TLSv1.3",
            ciphers=None,
            client_certificates="Required",
            client_ca=identity.ca,
        )
        # The one thing that keeps strangers out, so it does not rest on what a room for mail means by
        # "Required".
        context.verify_mode = ssl.CERT_REQUIRED
        before = self._state
        # Both accept from one socket for a moment: no connection is refused.
        self._state = await _start(self._state_socket, self._answer_state, context, self._take)
        self._identity = identity
        if before is not None:
            before.close()

    def close(self) -> None:
        """Stop answering."""
        for server in (self._state, self._health):
            if server is not None:
                server.close()
        self._state_socket.close()
        self._health_socket.close()

    def _answer_health(self, path: str, _writer: asyncio.StreamWriter) -> Answer:
        if path == "/healthz":
            return Answer(200, b"ok\n")
        if path == "/readyz":
            return Answer(200, b"ready\n") if self._facts.ready() else Answer(503, b"not ready\n")
        if path == "/metrics":
            return Answer(200, self._facts.metrics(), CONTENT_TYPE)
        return Answer(404, b"ask for /healthz, /readyz or /metrics\n")

    def _answer_state(self, path: str, writer: asyncio.StreamWriter) -> Answer:
        if INTERNAL_CLIENT_NAME not in _client_names(writer):
            return Answer(403, b"this certificate is not the operator's\n")
        if path == STATE_PATH:
            return Answer(200, self._facts.state(), "application/json")
        return Answer(404, b"ask for /state\n")

    async def _take(
        self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int
    ) -> Answer:
        if INTERNAL_SERVER_NAME not in _client_names(writer):
            return Answer(403, b"this certificate is not a member's\n")
        if path == HANDOVER_PATH:
            return await self._take_letter(reader, length)
        if path == LOOK_PATH:
            return await self._answer_look(reader, length)
        return Answer(404, b"post to /handover or /look\n")

    async def _answer_look(self, reader: asyncio.StreamReader, length: int) -> Answer:
        """A question of another member's pages: they show the whole gateway, whomever a browser asked."""
        if not 0 < length <= _LOOK_LIMIT:
            return Answer(413, b"no question has that size\n")
        if self._looks.locked():
            return Answer(503, b"too much is asked at this moment\n")
        async with self._looks:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    answer = await self._facts.look(await reader.readexactly(length))
            except NotAnswered as problem:
                return Answer(503, f"{problem}\n".encode())
            except TimeoutError:
                return Answer(503, b"the answer takes too long\n")
            return Answer(200, answer, "application/json")

    async def _take_letter(self, reader: asyncio.StreamReader, length: int) -> Answer:
        """A message that another member hands over. Its number here is the answer once it is on disk."""
        if not 0 < length <= _LETTER_LIMIT:
            return Answer(413, b"no message has that size\n")
        async with self._letters:
            content = await reader.readexactly(length)
            try:
                return Answer(200, str(await self._facts.adopt(content)).encode())
            except NotStored as problem:
                return Answer(503, f"{problem}\n".encode())


def _bind(address: str, port: int) -> socket.socket:
    try:
        if not address and socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family)
    except OSError as error:
        raise OSError(
            error.errno, f"cannot listen on {address or '*'} port {port}: {error.strerror}"
        ) from error


async def _start(
    bound: socket.socket, respond: Respond, context: ssl.SSLContext | None = None, take: Take | None = None
) -> asyncio.Server:
    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Awaitable[None]:
        return _serve(reader, writer, respond, take)

    return await asyncio.start_server(
        connected,
        sock=bound.dup(),
        limit=_HEAD_LIMIT,
        ssl=context,
        ssl_handshake_timeout=_SECONDS if context else None,
        ssl_shutdown_timeout=1.0 if context else None,
    )


async def _serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, respond: Respond, take: Take | None
) -> None:
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(_SECONDS) as limit:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                method, path, _version = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
                length = _content_length(head)
            except (asyncio.LimitOverrunError, ValueError):
                method, answer = "GET", Answer(400, b"not a request\n")
            else:
                if method in {"GET", "HEAD"}:
                    answer = respond(path.partition("?")[0], writer)
                elif method == "POST" and take is not None:
                    limit.reschedule(asyncio.get_running_loop().time() + _LETTER_SECONDS)
                    answer = await take(path, reader, writer, length)
                else:
                    answer = Answer(405, b"only GET\n")
            writer.write(
                f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\n"
                f"Content-Type: {answer.kind}\r\nContent-Length: {len(answer.body)}\r\n"
                "Cache-Control: no-store\r\nConnection: close\r\n\r\n".encode()
            )
            if method != "HEAD":
                writer.write(answer.body)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
    writer.close()


def _content_length(head: bytes) -> int:
    """What the request's head says of its body; 0: nothing. Raises ValueError."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _client_names(writer: asyncio.StreamWriter) -> set[str]:
    """The DNS names in the certificate that the client proved to have."""
    certificate = cast("dict[str, Any]", writer.get_extra_info("peercert") or {})
    pairs: tuple[tuple[str, str], ...] = certificate.get("subjectAltName", ())
    return {name for kind, name in pairs if kind == "DNS"}
