"""A real OpenLDAP server of the test's own: LDAP with StartTLS and LDAPS, on loopback, with a handful of people.

`slapd` runs in the foreground from a directory of its own and is ended by its process id.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from tests.harness import ports, programs, waiting

BASE: Final = "dc=here,dc=example"
BIND: Final = f"cn=mail,{BASE}"
PASSWORD: Final = "correct horse battery staple"
_CONFIGURATION: Final = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile {directory}/slapd.pid
argsfile {directory}/slapd.args
TLSCertificateFile {directory}/server.crt
TLSCertificateKeyFile {directory}/server.key
TLSCACertificateFile {directory}/ca.pem
TLSVerifyClient {verify}
database ldif
directory {directory}/data
suffix "{base}"
rootdn "cn=root,{base}"
rootpw root
access to attrs=userPassword by anonymous auth by * none
access to * {access}
"""
_TREE: Final = """\
dn: {base}
objectClass: dcObject
objectClass: organization
dc: here
o: here

dn: {bind}
objectClass: applicationProcess
objectClass: simpleSecurityObject
cn: mail
userPassword: {password}

"""
_PERSON: Final = """\
dn: cn=person {number},{base}
objectClass: inetOrgPerson
cn: person {number}
sn: {number}
mail: {user}@here.example

"""


class Slapd:
    """Use as a context manager."""

    def __init__(
        self,
        certificate: bytes,
        ca: bytes,
        *,
        people: tuple[str, ...] = ("known",),
        clients: Literal["never", "demand"] = "never",
        access: str = f'by dn.exact="{BIND}" read by * none',
        port: int = 0,
    ) -> None:
        """`certificate`: key and chain, PEM; `ca` is what client certificates are verified against."""
        self.port = port or ports.free_port()
        self.tls_port = ports.free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="letterlock-slapd-"))
        self._people = people
        self._access = access
        self._clients = clients
        self._files = {"server.key": certificate, "server.crt": certificate, "ca.pem": ca}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has said so far."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> Self:
        """Load the tree and start. Raises TimeoutError."""
        for name, content in self._files.items():
            path = self.directory / name
            path.write_bytes(content)
            path.chmod(0o600)
        data = self.directory / "data"
        configuration = self.directory / "slapd.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                directory=self.directory,
                base=BASE,
                verify=self._clients,
                access=self._access,
            )
        )
        if not data.exists():
            data.mkdir()
            tree = _TREE.format(base=BASE, bind=BIND, password=PASSWORD)
            tree += "".join(
                _PERSON.format(user=user, base=BASE, number=n) for n, user in enumerate(self._people)
            )
            (self.directory / "tree.ldif").write_text(tree)
            subprocess.run(
                [programs.require("slapadd"), "-f", configuration, "-l", self.directory / "tree.ldif"],
                check=True,
                capture_output=True,
                timeout=60,
            )
        addresses = f"ldap://127.0.0.1:{self.port}/ ldaps://127.0.0.1:{self.tls_port}/"
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [programs.require("slapd"), "-f", configuration, "-h", addresses, "-d", "stats"],
                stdout=log,
                stderr=log,
            )
        for port in (self.port, self.tls_port):
            ports.wait_for_listener(port)
        return self

    def stop(self) -> None:
        """End it, and wait."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=30)
            self._process = None

    def use_clients(self, ca: bytes) -> None:
        """Verify client certificates against `ca` (PEM) from the next start on."""
        self._files["ca.pem"] = ca

    def add(self, user: str) -> None:
        """One more person, while it runs."""
        subprocess.run(
            [
                *(programs.require("ldapadd"), "-x", "-H", f"ldap://127.0.0.1:{self.port}/"),
                *("-D", f"cn=root,{BASE}", "-w", "root"),
            ],
            input=_PERSON.format(user=user, base=BASE, number=len(self._people)).encode(),
            check=True,
            capture_output=True,
            timeout=60,
        )

    def wait_logged(self, words: str) -> None:
        """Return once `words` stand in its log."""
        waiting.until(lambda: words in self.log, what=f"{words!r} in the log of slapd", every=0.02)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.remove()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            print(f"--- log of slapd ---\n{self.log[-10000:]}")
        self.remove()

    def remove(self) -> None:
        """Stop it and remove everything of it."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
