"""Real Exim instances of the test's own: as the MTA that receives mail, and as the one that sends it.

Debian installs either Postfix or Exim, so `install.sh` unpacks Exim beside it, and this runs the program from
there. Each instance has its own configuration, spool and log in a temporary directory, listens on loopback
only, and is ended by its process id.
"""

import contextlib
import os
import shutil
import signal
import smtplib
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.harness import ports, programs

# Where install.sh unpacks the package.
PROGRAM: Final = Path("/opt/letterlock-exim/usr/sbin/exim4")
# The user that Debian's Exim is built to run as.
_USER: Final = "Debian-exim"

_MAIN: Final = """\
primary_hostname = {name}
qualify_domain = {name}
local_interfaces = <; [127.0.0.1]:{port}
spool_directory = {directory}/spool
log_file_path = {directory}/%slog
pid_file_path = {directory}/exim.pid
exim_user = Debian-exim
exim_path = {program}
deliver_drop_privilege
host_lookup =
rfc1413_query_timeout = 0s
keep_environment =
smtp_accept_max = 0
smtp_accept_queue_per_connection = 0
message_size_limit = 60M
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
chunking_advertise_hosts = *
log_selector = +all -arguments -queue_run
ignore_bounce_errors_after = 0s
delay_warning =
acl_smtp_rcpt = everybody
{main}
begin acl
everybody:
  accept
begin routers
{router}
begin transports
{transport}
begin retry
* * F,1h,2s
"""

_MAILBOX: Final = (
    "all:\n  driver = accept\n  transport = mailbox\n",
    """\
mailbox:
  driver = appendfile
  directory = {directory}/mailbox
  maildir_format
  create_directory
  user = Debian-exim
  group = Debian-exim
  delivery_date_add = false
  envelope_to_add = false
  return_path_add = false
""",
)
_RELAY: Final = (
    "all:\n  driver = manualroute\n  route_list = * 127.0.0.1 byname\n  self = send\n  transport = relay\n",
    "relay:\n  driver = smtp\n  port = {relay_port}\n  allow_localhost\n  {tls}\n",
)


class EximError(RuntimeError):
    """Exim did not start, or did not do what the test asked; the message ends with its log."""


class Exim:
    """One instance. Made by `receiving` or `sending`; use with `with`."""

    def __init__(self, name: str, *, main: str, router: str, transport: str, relay_port: int = 0) -> None:
        self.name = name
        self.port = ports.free_port()
        # Not below pytest's temporary directories: those are closed to the user that Exim runs as.
        self.directory = Path(tempfile.mkdtemp(prefix="letterlock-exim-"))
        self._text = _MAIN.format(
            name=name,
            port=self.port,
            directory=self.directory,
            program=PROGRAM,
            main=main,
            router=router,
            transport=transport.format(directory=self.directory, relay_port=relay_port, tls="{tls}"),
        )
        self._process: subprocess.Popen[bytes] | None = None

    def listen_at(
        self, address: str, port: int, certificate: bytes, *, by_sni: Mapping[str, bytes] | None = None
    ) -> None:
        """Take SMTP there, too, with a certificate of its own (PEM, key first). Receiving role, before it starts.

        `by_sni`: certificates for clients that ask for these names.
        """
        here = f"[127.0.0.1]:{self.port}"
        self._text = self._text.replace(here, f"{here} ; [{address}]:{port}", 1)
        with (self.directory / "certificates").open("a") as table:
            for name, pem in {"": certificate, **(by_sni or {})}.items():
                file = self.directory / f"{address}-{name}.pem"
                file.write_bytes(pem)
                table.write(f"{address}/{name}: {file}\n")

    @classmethod
    def receiving(
        cls,
        *,
        certificate: bytes | None = None,
        name: str = "mx.mailbox.example",
        client_ca: bytes | None = None,
    ) -> Self:
        """An MTA that takes all mail into one mailbox; with `certificate` (PEM, key first) it offers STARTTLS.

        `client_ca`: only from clients with a certificate that chains to this one.
        """
        router, transport = _MAILBOX
        made = cls(name, main="", router=router, transport=transport)
        main = ""
        if client_ca is not None:
            clients = made.directory / "clients.pem"
            clients.write_bytes(client_ca)
            main = f"tls_verify_hosts = *\ntls_verify_certificates = {clients}\n"
        if certificate is not None:
            file = made.directory / "server.pem"
            file.write_bytes(certificate)
            table = made.directory / "certificates"
            table.touch()
            # By the address that the client came to and the name that it asks for; else by the address alone.
            chosen = (
                f"${{lookup{{$received_ip_address/$tls_in_sni}}lsearch{{{table}}}{{$value}}"
                f"{{${{lookup{{$received_ip_address/}}lsearch{{{table}}}{{$value}}{{{file}}}}}}}}}"
            )
            made._text = made._text.replace(
                "acl_smtp_rcpt",
                f"tls_advertise_hosts = *\ntls_certificate = {chosen}\ntls_privatekey = {chosen}\n{main}acl_smtp_rcpt",
                1,
            )
        else:
            made._text = made._text.replace("acl_smtp_rcpt", "tls_advertise_hosts =\nacl_smtp_rcpt", 1)
        return made

    @classmethod
    def sending(cls, relay_port: int, *, name: str = "client.example", ca: bytes | None = None) -> Self:
        """An MTA that takes anything from loopback and sends it to a port there.

        With `ca` (PEM) only over TLS with a certificate that chains to it.
        """
        router, transport = _RELAY
        made = cls(
            name,
            main="tls_advertise_hosts =\nchunking_advertise_hosts =",
            router=router,
            transport=transport,
            relay_port=relay_port,
        )
        tls = "hosts_avoid_tls = *"
        if ca is not None:
            file = made.directory / "ca.pem"
            file.write_bytes(ca)
            tls = (
                f"hosts_require_tls = *\n  tls_verify_certificates = {file}\n"
                "  tls_verify_hosts = *\n  tls_verify_cert_hostnames ="
            )
        made._text = made._text.replace("{tls}", tls).replace("chunking_advertise_hosts = *\n", "", 1)
        return made

    @property
    def log(self) -> str:
        """Its logs' text so far."""
        files = [self.directory / f"{name}log" for name in ("main", "reject", "panic")]
        return "".join(path.read_text(errors="replace") for path in files if path.exists())

    def __enter__(self) -> Self:
        try:
            return self._start()
        except BaseException:
            self._remove()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:  # pytest shows this with the failure
            print(f"--- log of {self.name} ---\n{self.log}")
        self._remove()

    def submit(
        self, message: bytes, *, to: str | Sequence[str], sender: str = "sender@client.example"
    ) -> None:
        """Hand `message` (LF line ends) to the sending role. Raises smtplib.SMTPException."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=30) as client:
            client.sendmail(
                sender, [to] if isinstance(to, str) else list(to), message.replace(b"\n", b"\r\n")
            )

    def messages(self) -> list[bytes]:
        """All messages in the mailbox as they lie there: LF line ends, the headers of every hop in front."""
        new = self.directory / "mailbox" / "new"
        return [path.read_bytes() for path in sorted(new.iterdir())] if new.is_dir() else []

    def queue(self) -> str:
        """What `exim -bp` says; empty: nothing is queued."""
        done = subprocess.run(
            [*self._command(), "-bp"],
            check=True,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        return done.stdout.decode(errors="replace").strip()

    def _command(self) -> list[str]:
        return [str(PROGRAM), "-C", str(self.directory / "exim.conf")]

    def _start(self) -> Self:
        programs.require_root("An Exim of the test's own")
        if not PROGRAM.exists():
            raise programs.MissingProgramError(
                "Exim is missing: run tests/harness/install.sh (on Debian, as root)."
            )
        configuration = self.directory / "exim.conf"
        configuration.write_text(self._text)
        for path in (self.directory, *self.directory.iterdir()):
            shutil.chown(path, _USER, _USER)
            path.chmod(0o755 if path.is_dir() else 0o640)
        shutil.chown(configuration, "root", "root")  # Exim trusts only root's
        configuration.chmod(0o644)
        with (self.directory / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [*self._command(), "-bdf", "-q2s"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            ports.wait_for_listener(self.port)
        except TimeoutError as problem:
            told = (self.directory / "output").read_text(errors="replace")
            raise EximError(f"{problem}\n{told}\n{self.log}") from problem
        return self

    def _remove(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(20)
            self._process = None
        shutil.rmtree(self.directory, ignore_errors=True)
