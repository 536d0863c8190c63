"""Three members of one gateway: two real ones, and one that says whatever a test wants it to."""

import contextlib
import smtplib
import socket
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from letterlock_api.snapshot import NextHop, Snapshot, SnapshotMember
from letterlock_api.state import INTERNAL_CA_FILE, INTERNAL_CERTIFICATE_FILE, INTERNAL_SERVER_NAME
from tests.harness.member import Member
from tests.harness.mounts import destination, listener
from tests.harness.ports import free_port
from tests.harness.waiting import until
from tests.web.managed import Managed
from tests.web.populated import fill_day

ADDRESSES: Final = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
NAMES: Final = ("default-0", "default-1", "default-2")
_ENDLESS: Final = 64 << 20  # bytes: far more than anybody takes


@dataclass
class Odd:
    """A member that proves to be one, and answers with `answer`, whatever it is asked; None: it hangs up."""

    directory: Path
    files: dict[str, bytes]
    port: int
    answer: bytes | None = None
    endless: bool = False
    """Whether its answer never ends."""
    taken: int = 0
    """Bytes that somebody took of the last answer."""
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def serving(self) -> Generator[None]:
        """Serve until the end."""
        pem = self.directory / "odd.pem"
        pem.write_bytes(self.files[INTERNAL_CERTIFICATE_FILE])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        with socket.create_server((ADDRESSES[2], self.port)) as bound:
            bound.settimeout(0.1)
            thread = threading.Thread(target=self._run, args=(bound, context))
            thread.start()
            try:
                yield
            finally:
                self._stop.set()
                thread.join()

    def _run(self, bound: socket.socket, context: ssl.SSLContext) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError, OSError, ssl.SSLError):
                plain, _ = bound.accept()
                plain.settimeout(20)
                with context.wrap_socket(plain, server_side=True) as connection:
                    asked = b""
                    # To the end of the question, which is JSON.
                    while not asked.endswith(b"}") and (piece := connection.recv(65536)):
                        asked += piece
                    self._say(connection)
                    with contextlib.suppress(OSError):
                        connection.unwrap()

    def _say(self, connection: ssl.SSLSocket) -> None:
        if self.answer is None:
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + self.answer)
        self.taken = len(self.answer)
        while self.endless and self.taken < _ENDLESS:
            connection.sendall(b"[" * 65536)
            self.taken += 65536


@dataclass
class Several:
    """The gateway."""

    members: list[Member]
    first: Managed
    smtp: int = field(default_factory=free_port)
    closed: int = field(default_factory=free_port)

    def snapshot(self, *names: str) -> Snapshot:
        """With pages, one listener, a next hop that nobody listens on, and these members."""
        hop = NextHop(host="127.0.0.1", port=self.closed)
        return self.first.snapshot(
            listeners=[listener(self.smtp, address="")],
            destinations=[
                destination(routes=[hop]),
                destination("b.example", resource="control-b", routes=[hop]),
            ],
            members=[
                SnapshotMember(name=name, host=address)
                for name, address in zip(NAMES, ADDRESSES, strict=True)
                if name in names
            ],
        )

    def publish(self, *names: str) -> None:
        """Mount it everywhere, and wait until all serve it."""
        taken = self.snapshot(*names)
        for member in self.members[1:]:
            files = self.first.files
            named = taken.model_copy(update={"files": sorted(files.content)})
            digests = {**named.digests, f"MailGateway/{named.gateway}": named.hash()}
            member.mount.publish(named.model_copy(update={"digests": digests}), files)
        self.first.publish(taken)
        for member in self.members:
            self.wait_served(member)

    def wait_served(self, member: Member) -> None:
        """Until a member's pages are served."""

        def served() -> bool:
            state = member.state()
            return state is not None and "MailGateway/default" in state.digests

        until(served, what=f"the pages of {member.name}", seconds=120)

    def send(self, number: int, sender: str, *recipients: str) -> None:
        """Have member `number` accept a message, and fail to deliver it."""
        member = self.members[number]
        with smtplib.SMTP(member.address, self.smtp, timeout=60) as client:
            client.ehlo("client.example")
            client.sendmail(sender, list(recipients), f"Message-ID: <{sender}>\r\n\r\nhi\r\n")
        domain = recipients[0].partition("@")[2]

        def failing() -> bool:
            state = member.state()
            return state is not None and any(
                bad.domain == domain for one in state.destinations for bad in one.failing
            )

        until(failing, what=f"{domain} failing on {member.name}", seconds=120)

    def post(
        self, number: int, path: str, content: bytes, identity: bytes | None, method: str = "POST"
    ) -> bytes:
        """What member `number` answers on its port for members. `identity` None: to somebody without one."""
        member = self.members[number]
        context = ssl.create_default_context(cadata=member.internal.member_files()[INTERNAL_CA_FILE].decode())
        if identity is not None:
            pem = member.spool.parent / "asking.pem"
            pem.write_bytes(identity)
            context.load_cert_chain(pem)
        head = f"{method} {path} HTTP/1.1\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        with (
            socket.create_connection((member.address, member.state_port), timeout=60) as plain,
            context.wrap_socket(plain, server_hostname=INTERNAL_SERVER_NAME) as connection,
        ):
            connection.sendall(head + content)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        return answer.removeprefix(b"HTTP/1.1 ")


@contextmanager
def several(directory: Path) -> Generator[Several]:
    """Two members that run and serve, each with a day of mail behind it."""
    first = Member(directory / "0", name=NAMES[0], workers=1, address=ADDRESSES[0])
    second = Member(directory / "1", name=NAMES[1], workers=1, address=ADDRESSES[1], beside=first)
    for one in (first, second):
        fill_day(one.spool)
    with first, second:
        found = Several([first, second], Managed(first, changes={"address": ""}))
        found.publish(*NAMES[:2])
        yield found
