"""A reception on a free port of loopback, with its set and its spool, and a client that speaks octets."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from letterlock_api.snapshot import (
    AccessGroup,
    ReceptionPolicy,
    RecipientRule,
    ServedCertificate,
    Snapshot,
    SnapshotDelivery,
    SnapshotListener,
    TrustList,
    ca_file_name,
    tls_file_name,
)
from letterlock_gateway.mount import assemble
from letterlock_gateway.options import Options
from letterlock_gateway.receive import Reception
from letterlock_gateway.report.log import Log
from letterlock_gateway.running import RunningSet
from letterlock_gateway.spool import Queued, Spool
from tests.harness.ports import free_port

DEFAULT_GROUPS = (AccessGroup(name="all", senders=["ALL"], policy="default"),)


def listener(
    port: int,
    *,
    name: str = "public",
    groups: Sequence[AccessGroup] = DEFAULT_GROUPS,
    policies: Sequence[dict[str, object]] = (),
    certificates: Sequence[bytes] = (),
    sni: Sequence[Sequence[str]] = (),
    policy: dict[str, object] | None = None,
    **fields: object,
) -> SnapshotListener:
    """A listener; `policy` are fields of the default policy, `certificates` PEM with key."""
    default: dict[str, object] = {"name": "default", "behavior": "Accept"}
    values: dict[str, object] = {
        "name": name,
        "type": "Public",
        "port": port,
        "policies": [ReceptionPolicy.model_validate(one) for one in [default | (policy or {}), *policies]],
        "groups": list(groups),
        "recipients": [RecipientRule(match=["here.example"], accept=True)],
        "certificates": [
            ServedCertificate(name=f"c{n}", file=tls_file_name(pem), names=list(sni[n]) if sni else [])
            for n, pem in enumerate(certificates)
        ],
    }
    return SnapshotListener.model_validate(values | fields)


def running_set(
    *listeners: SnapshotListener,
    certificates: Sequence[bytes] = (),
    ca: bytes | None = None,
    resolvers: Sequence[str] = (),
) -> RunningSet:
    """A set with these listeners; `certificates` are all that they use, `ca` the one CA that is trusted."""
    files = {tls_file_name(pem): pem for pem in certificates}
    trust: dict[str, TrustList] = {}
    if ca is not None:
        files[ca_file_name(ca)] = ca
        trust["test"] = TrustList(file=ca_file_name(ca))
    snapshot = Snapshot(
        gateway="default",
        hostname="mx.here.example",
        listeners=list(listeners),
        trust=trust,
        files=sorted(files),
        delivery=SnapshotDelivery(resolvers=list(resolvers)),
    )
    return RunningSet.build(assemble(snapshot.encode(), files), "default-0")


@dataclass
class Receiving:
    """A reception with what it wrote."""

    reception: Reception
    spool: Spool
    port: int
    lines: list[bytes] = field(default_factory=list[bytes])

    @property
    def log(self) -> str:
        """The mail log so far, as text."""
        return b"".join(self.lines).decode()

    async def stored(self) -> list[Queued]:
        """All that lies in the spool and has not been asked for yet."""
        return await self.spool.due(9e12, 10_000)


@asynccontextmanager
async def receiving(directory: Path, port: int = 0) -> AsyncGenerator[Receiving]:
    """A reception that listens nowhere yet."""
    lines: list[bytes] = []
    spool = await Spool.open(directory / "1")
    options = Options(mount=directory, spool=directory, member="default-0", address="127.0.0.1")
    reception = Reception(spool, Log("text", write=lines.append), options, lambda: 1764041033.0)
    try:
        yield Receiving(reception, spool, port or free_port(), lines)
    finally:
        await reception.close(0)
        await spool.close()


class Client:
    """A client that sends what it is told and reads replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(
        cls, port: int, *, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> "Client":
        """Connect from `source`, with TLS from the first byte if a context is given."""
        return cls(
            *await asyncio.open_connection(
                "127.0.0.1", port, local_addr=(source, 0), ssl=tls, server_hostname="mx" if tls else None
            )
        )

    async def reply(self) -> str:
        """One reply, all its lines; empty: the connection has ended."""
        lines: list[str] = []
        async with asyncio.timeout(20):
            while True:
                line = (await self.reader.readline()).decode()
                lines.append(line)
                if line[3:4] != "-":
                    return "".join(lines)

    async def ask(self, *lines: str) -> str:
        """Send lines in one piece and read one reply."""
        return await self.raw("".join(f"{line}\r\n" for line in lines).encode())

    async def raw(self, data: bytes) -> str:
        """Send octets and read one reply."""
        self.writer.write(data)
        return await self.reply()

    async def tls(self, context: ssl.SSLContext, name: str = "mx.here.example") -> None:
        """STARTTLS and the handshake."""
        assert (await self.ask("STARTTLS")).startswith("220")
        await self.writer.start_tls(context, server_hostname=name)

    async def send(self, body: bytes, *, to: str = "u@here.example", sender: str = "a@b.example") -> str:
        """A message; the last reply."""
        for line in ("EHLO client.example", f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>", "DATA"):
            answer = await self.ask(line)
            if answer[0] not in "23":
                return answer
        return await self.raw(body + b".\r\n")

    async def close(self) -> None:
        """Close it, whatever state it is in."""
        self.writer.close()
        with suppress(OSError, ssl.SSLError):
            await self.writer.wait_closed()


def trusting(ca: bytes) -> ssl.SSLContext:
    """A client's context that trusts `ca` alone."""
    context = ssl.create_default_context(cadata=ca.decode())
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
