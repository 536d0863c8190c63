"""The sink: takes every message over STARTTLS and forgets it, with several processes on one port."""

import asyncio
import contextlib
import socket
import ssl
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.harness import ports


class Sink:
    """A running sink; `count` and `last` say what came in since `reset`."""

    def __init__(self, certificate: bytes, processes: int) -> None:
        """`certificate`: PEM, key first."""
        self.port = ports.free_port()
        self._certificate = certificate
        spawning = get_context("spawn")
        self._counts: list[Any] = [spawning.Value("q", 0, lock=False) for _ in range(processes)]
        self._lasts: list[Any] = [spawning.Value("d", 0.0, lock=False) for _ in range(processes)]
        self._spawning = spawning
        self._processes: list[BaseProcess] = []
        self._base = 0

    @property
    def count(self) -> int:
        """Messages since `reset`."""
        return sum(int(count.value) for count in self._counts) - self._base

    @property
    def last(self) -> float:
        """When the last one came in: monotonic clock."""
        return max(float(last.value) for last in self._lasts)

    def reset(self) -> None:
        """Count from zero again."""
        self._base += self.count

    def __enter__(self) -> Self:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sink.pem"
            path.write_bytes(self._certificate)
            for count, last in zip(self._counts, self._lasts, strict=True):
                process = self._spawning.Process(
                    target=serve, args=(self.port, str(path), count, last), daemon=True
                )
                process.start()
                self._processes.append(process)
            ports.wait_for_listener(self.port)
            time.sleep(1)  # until the others have read the certificate and listen, too
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
            process.join()


def serve(port: int, certificate: str, count: Any, last: Any) -> None:
    """Serve on loopback until terminated: one process of the sink."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    asyncio.run(_serve(port, context, count, last))


async def _serve(port: int, context: ssl.SSLContext, count: Any, last: Any) -> None:
    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
            await _session(reader, writer)
        writer.close()

    async def _session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        secure = False
        writer.write(b"220 sink.bench.example ESMTP\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                offer = b"" if secure else b"250-STARTTLS\r\n"
                writer.write(
                    b"250-sink.bench.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n"
                    + offer
                    + b"250 SMTPUTF8\r\n"
                )
            elif verb == b"STAR":
                writer.write(b"220 2.0.0 go ahead\r\n")
                await writer.start_tls(context)
                secure = True
            elif verb == b"DATA":
                writer.write(b"354 go ahead\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                count.value += 1
                last.value = time.monotonic()
                writer.write(b"250 2.0.0 taken\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 bye\r\n")
                await writer.drain()
                return
            else:
                writer.write(b"250 2.0.0 ok\r\n")

    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind(("127.0.0.1", port))
    server = await asyncio.start_server(session, sock=listening, limit=1 << 22, backlog=1024)
    async with server:
        await server.serve_forever()
