"""A name server on loopback that answers from a table; names can be made to fail."""

import asyncio
from types import TracebackType
from typing import Any, Self

import dns.flags
import dns.message
import dns.rcode
import dns.rrset


class Nameserver(asyncio.DatagramProtocol):
    """Use as an async context manager. `records`: (name without trailing dot, type) → texts."""

    def __init__(self, records: dict[tuple[str, str], list[str]], *, failing: tuple[str, ...] = ()) -> None:
        """Names in `failing` get SERVFAIL; names in no record NXDOMAIN."""
        self.records = records
        self.failing = failing
        self.asked: list[tuple[str, str]] = []
        self.address = ""
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        host, port = transport.get_extra_info("sockname")[:2]
        self.address = f"{host}:{port}"
        self._transport = transport
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._transport is not None
        self._transport.close()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        name, kind = str(question.question[0].name).rstrip("."), question.question[0].rdtype.name
        self.asked.append((name, kind))
        if name in self.failing:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif found := self.records.get((name, kind)):
            answer.answer.append(dns.rrset.from_text_list(f"{name}.", 60, "IN", kind, found))
        assert self._transport is not None
        self._transport.sendto(answer.to_wire(), addr)
