"""A real member with HTTPS management, and a client that speaks to it as a browser would (without a browser's help)."""

import gzip
import http.client
import re
import ssl
import urllib.parse
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import bcrypt

from letterlock_api.snapshot import Snapshot, SnapshotManagement, users_file_name
from tests.harness.certificates import Authority
from tests.harness.member import Member
from tests.harness.mounts import Files, snapshot
from tests.harness.ports import free_port
from tests.harness.waiting import until

USER: Final = "ada"
PASSWORD: Final = "correct horse battery staple"
# The lowest cost: tests sign in often.
HASHED: Final = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
HTTPS_NAME: Final = "manage.letterlock.example"


@dataclass(frozen=True)
class Reply:
    """An answer over HTTPS."""

    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def cookie(self) -> str:
        """`name=value` of the cookie that it sets; empty: none."""
        return (self.headers.get("Set-Cookie") or "").partition(";")[0]


@dataclass
class Client:
    """Speaks HTTPS to the pages, and verifies them against the test's CA. Remembers its cookie."""

    port: int
    authority: Authority
    certificate: Path | None = None
    source: str = "127.0.0.1"
    cookie: str = ""
    address: str = "127.0.0.1"

    def context(self) -> ssl.SSLContext:
        """What it connects with."""
        context = ssl.create_default_context(cadata=self.authority.pem.decode())
        if self.certificate is not None:
            context.load_cert_chain(self.certificate)
        return context

    def request(
        self,
        method: str,
        path: str,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request on a connection of its own. Raises OSError, HTTPException."""
        connection = _Connection(self)
        try:
            body = urllib.parse.urlencode(form).encode() if form is not None else None
            sent = {"Host": f"{HTTPS_NAME}:{self.port}"}
            if form is not None:
                sent |= {
                    "Content-Type": "application/x-www-form-urlencoded",
                    "Origin": f"https://{HTTPS_NAME}:{self.port}",
                    "Sec-Fetch-Site": "same-origin",
                }
            if self.cookie:
                sent["Cookie"] = self.cookie
            connection.request(method, path, body, sent | dict(headers or {}))
            answer = connection.getresponse()
            content = answer.read()
            if answer.headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
            reply = Reply(answer.status, answer.headers, content.decode())
        finally:
            connection.close()
        if reply.cookie:
            self.cookie = "" if reply.cookie.endswith(('=""', "=")) else reply.cookie
        return reply

    def get(self, path: str, **headers: str) -> Reply:
        """What a link leads to."""
        return self.request("GET", path, headers=headers)

    def post(self, path: str, form: Mapping[str, str], **headers: str) -> Reply:
        """What a form of the pages leads to."""
        return self.request("POST", path, form, headers)

    def sign_in(self, user: str = USER, password: str = PASSWORD, target: str = "/") -> Reply:
        """Send the form of the sign-in page."""
        return self.post(
            f"/sign-in?next={urllib.parse.quote(target, safe='')}", {"user": user, "password": password}
        )


class _Connection(http.client.HTTPSConnection):
    """To loopback, verified against the pages' name."""

    def __init__(self, client: Client) -> None:
        super().__init__(client.address, client.port, timeout=60, source_address=(client.source, 0))
        self._verifying = client.context()

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._verifying.wrap_socket(self.sock, server_hostname=HTTPS_NAME)


@dataclass
class Managed:
    """A member whose pages can be asked."""

    member: Member
    authority: Authority = field(default_factory=Authority)
    port: int = field(default_factory=free_port)
    users: str = f"{USER}:{HASHED}\n"
    pair: bytes = b""
    changes: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of the management."""
    files: Files = field(default_factory=Files)

    def __post_init__(self) -> None:
        self.pair = self.pair or self.authority.issue(HTTPS_NAME)

    def snapshot(self, *, demo: bool = False, **changes: Any) -> Snapshot:
        """A snapshot with the pages in it."""
        users = self.users.encode()
        certificate = self.files.certificate(self.pair, "" if demo else "manage", demo=demo)
        if users:
            self.files.content[users_file_name(users)] = users
        fields: dict[str, Any] = {
            "address": "127.0.0.1",
            "port": self.port,
            "certificate": certificate,
            "users_file": users_file_name(users) if users else None,
        }
        management = SnapshotManagement(**(fields | self.changes))
        return snapshot(self.files, management=management, **changes)

    def publish(self, taken: Snapshot) -> str:
        """Mount it, and wait until every worker runs it and the pages are served."""
        digests = {**taken.digests, f"MailGateway/{taken.gateway}": taken.hash()}
        taken = taken.model_copy(update={"files": sorted(self.files.content), "digests": digests})
        found = self.member.mount.publish(taken, self.files)
        self.member.wait_running(found, seconds=120)
        until(lambda: self.programmed(digests), seconds=120, what="the pages are served", every=0.02)
        return found

    def programmed(self, digests: Mapping[str, str]) -> bool:
        """Whether the member says that it runs these."""
        state = self.member.state()
        return state is not None and digests.items() <= state.digests.items()

    def client(self, **more: Any) -> Client:
        """Somebody who has not signed in."""
        return Client(self.port, self.authority, **more)

    def signed_in(self) -> Client:
        """Somebody who has."""
        client = self.client()
        reply = client.sign_in()
        assert reply.status == 303, reply.text
        return client


@contextmanager
def managed(
    directory: Path, *, before: Callable[[Path], None] = lambda _: None, **fields: Any
) -> Generator[Managed]:
    """A member that is started, without a snapshot yet. `before` may fill its spool directory."""
    member = Member(directory, workers=1)
    before(member.spool)
    with member:
        yield Managed(member, **fields)


def proof_in(page: str) -> str:
    """What the forms of a page carry."""
    found = re.search(r'name="proof" value="([^"]+)"', page)
    assert found is not None, page
    return found[1]
