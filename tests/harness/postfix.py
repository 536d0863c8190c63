"""Real Postfix instances of the test's own: as the MTA that receives mail, and as the one that sends it.

Each has its own configuration, queue and data in a temporary directory, listens on loopback only, and is
ended by the process id of its master. Of the machine's own Postfix only the programs are used.
"""

import contextlib
import os
import shutil
import signal
import smtplib
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from tests.harness import ports, programs, waiting

ServerTLS = Literal["none", "may", "encrypt"]
# Owner of the mailbox: Postfix delivers as nobody who owns anything else.
_NOBODY: Final = 65534
ClientTLS = Literal["none", "may", "encrypt", "verify", "secure"]

# The services of Debian's master.cf that these roles use, none in a chroot. Mail comes in by SMTP; pickup is
# there because `postqueue -f` asks for it.
_MASTER: Final = """\
{port} inet n - n - {processes} smtpd
cleanup unix n - n - 0 cleanup
pickup unix n - n 3600 1 pickup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - {processes} smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsproxy unix - - n - 0 tlsproxy
postlog unix-dgram n - n - 1 postlogd
"""

# A test compares byte for byte, so Postfix adds and rewrites nothing that it need not.
_COMMON: Final[Mapping[str, str]] = {
    "compatibility_level": "3.6",
    "mail_owner": "postfix",
    "setgid_group": "postdrop",
    "inet_protocols": "ipv4",
    "mynetworks": "127.0.0.0/8",
    "mydestination": "",
    "alias_maps": "",
    "alias_database": "",
    "local_recipient_maps": "",
    "local_transport": "error:no local delivery here",
    "local_header_rewrite_clients": "",
    "biff": "no",
    "notify_classes": "",
    "message_size_limit": "52428800",
    "disable_dns_lookups": "yes",
    "smtp_host_lookup": "native",
    "smtp_address_preference": "ipv4",
    "smtputf8_enable": "yes",
    "smtpd_tls_loglevel": "1",
    "smtp_tls_loglevel": "1",
    "smtp_tls_session_cache_database": "",
    "smtpd_tls_session_cache_database": "",
    "smtpd_peername_lookup": "no",
    # A test sends in a minute what these guard against in an hour.
    "smtpd_client_connection_count_limit": "0",
    "smtpd_error_sleep_time": "0",
    "in_flow_delay": "0",
    "minimal_backoff_time": "2s",
    "queue_run_delay": "2s",
    "maximal_backoff_time": "5s",
}


class PostfixError(RuntimeError):
    """Postfix did not start, or did not do what the test asked; the message ends with its log."""


class Postfix:
    """One instance: `start`, use, `stop`, or `with`."""

    def __init__(
        self,
        name: str,
        settings: Mapping[str, str],
        *,
        port: int = 0,
        processes: int = 100,
        address: str = "127.0.0.1",
    ) -> None:
        """An instance that greets as `name` and takes SMTP on loopback `port` (0: a free one), or at `address`.

        `settings` are added to main.cf; `processes` is the limit per service.
        """
        self.name = name
        self.address = address
        self.port = port or ports.free_port(address)
        # Not below pytest's temporary directories: those are closed to the user that Postfix runs as.
        self.directory = Path(tempfile.mkdtemp(prefix="letterlock-postfix-"))
        self._settings: Mapping[str, str] = {
            **_COMMON,
            "myhostname": name,
            "myorigin": name,
            "config_directory": str(self.configuration),
            "queue_directory": str(self.directory / "queue"),
            "data_directory": str(self.directory / "data"),
            "inet_interfaces": address,
            "maillog_file": str(self.log_file),
            "maillog_file_prefixes": str(self.directory),
            **settings,
        }
        self._processes = processes
        self._also: list[tuple[str, Mapping[str, str]]] = []
        self._sni_tables: list[Path] = []
        self._pid: int | None = None

    @classmethod
    def receiving(
        cls,
        *,
        certificate: bytes | None = None,
        name: str = "mx.mailbox.example",
        tls: ServerTLS = "may",
        domains: Sequence[str] = ("mailbox.example",),
        port: int = 0,
        address: str = "127.0.0.1",
        settings: Mapping[str, str] | None = None,
    ) -> Self:
        """An MTA that takes all mail for `domains` into one mailbox.

        It offers STARTTLS, or demands it (`encrypt`). `certificate` is PEM, key first; without it TLS is off.
        """
        made = cls(
            name,
            {
                "virtual_mailbox_domains": ", ".join(domains),
                "virtual_mailbox_base": "/",
                "virtual_mailbox_maps": "",  # set below, when the directory is known
                "virtual_uid_maps": f"static:{_NOBODY}",
                "virtual_gid_maps": f"static:{_NOBODY}",
                "virtual_minimum_uid": "1",
                "virtual_transport": "virtual",
                "virtual_mailbox_limit": "0",
                "smtpd_relay_restrictions": "reject_unauth_destination",
                "smtpd_recipient_restrictions": "",
                "smtpd_tls_received_header": "yes",
                **(settings or {}),
            },
            port=port,
            address=address,
        )
        made._settings = {
            **made._settings,
            "virtual_mailbox_maps": f"static:{made.mailbox.relative_to('/')}/",
        }
        made.use_certificate(certificate, tls)
        return made

    @classmethod
    def sending(
        cls,
        relay_port: int,
        *,
        relay_host: str = "127.0.0.1",
        name: str = "client.example",
        tls: ClientTLS = "secure",
        ca: bytes | None = None,
        match: Sequence[str] = (),
        certificate: bytes | None = None,
        port: int = 0,
        settings: Mapping[str, str] | None = None,
    ) -> Self:
        """An MTA that takes anything from loopback and sends it to `relay_host:relay_port`.

        With `secure` or `verify` the relay's certificate must chain to `ca` (PEM) and hold a name in `match`.
        `certificate` (PEM, key first) is presented where it is asked for.
        """
        made = cls(
            name,
            {
                "relayhost": f"[{relay_host}]:{relay_port}",
                "smtpd_relay_restrictions": "permit_mynetworks, reject",
                "smtp_tls_security_level": tls,
                **_names_to_match(match),
                **(settings or {}),
            },
            port=port,
        )
        if ca is not None:
            ca_file = made._write("ca.pem", ca, 0o644)
            made._settings = {**made._settings, "smtp_tls_CAfile": str(ca_file)}
        if certificate is not None:
            chain_file = made._write("client.pem", certificate, 0o600)
            made._settings = {**made._settings, "smtp_tls_chain_files": str(chain_file)}
        return made

    @property
    def configuration(self) -> Path:
        """Where main.cf and master.cf lie."""
        return self.directory / "etc"

    @property
    def log_file(self) -> Path:
        """The mail log."""
        return self.directory / "mail.log"

    @property
    def mailbox(self) -> Path:
        """The Maildir of the receiving role."""
        return self.directory / "mailbox"

    @property
    def log(self) -> str:
        """The mail log's text so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def use_certificate(self, certificate: bytes | None, tls: ServerTLS = "may") -> None:
        """Serve `certificate` (PEM, key first); if this instance runs, from the next connection on."""
        settings = {"smtpd_tls_security_level": "none"}
        if certificate is not None:
            path = self._write("server.pem", certificate, 0o600)
            settings = {"smtpd_tls_security_level": tls, "smtpd_tls_chain_files": str(path)}
        self._settings = {**self._settings, **settings}
        if self._pid is not None:
            self._write_configuration()
            self._postfix("reload")

    def listen_at(
        self,
        address: str,
        port: int,
        certificate: bytes | None = None,
        *,
        by_sni: Mapping[str, bytes] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Take SMTP there, too, with a certificate of its own (PEM, key first). Before `start`.

        `by_sni`: certificates for clients that ask for these names. `settings`: what else is different there.
        """
        number = len(self._also)
        different = dict(settings or {})
        if certificate is not None:
            path = self._write(f"at-{number}.pem", certificate, 0o600)
            different = {"smtpd_tls_security_level": "may", "smtpd_tls_chain_files": str(path), **different}
        if by_sni:
            files = {
                name: self._write(f"at-{number}-{count}.pem", pem, 0o600)
                for count, (name, pem) in enumerate(by_sni.items())
            }
            table = self._write(
                f"sni-{number}", "".join(f"{name} {file}\n" for name, file in files.items()).encode(), 0o600
            )
            self._sni_tables.append(table)
            different["tls_server_sni_maps"] = f"hash:{table}"
        self._also.append((f"[{address}]:{port}" if ":" in address else f"{address}:{port}", different))

    def require_certificates(self, ca: bytes, settings: Mapping[str, str] | None = None) -> None:
        """Take mail only from clients with a certificate that chains to `ca` (PEM), over TLS. Before `start`."""
        self._settings = {
            **self._settings,
            "smtpd_tls_security_level": "encrypt",
            "smtpd_tls_ask_ccert": "yes",
            "smtpd_tls_req_ccert": "yes",
            "smtpd_tls_CAfile": str(self._write("clients.pem", ca, 0o644)),
            **(settings or {}),
        }

    def require_sign_in(self, logins: Mapping[str, str], mechanisms: str = "PLAIN LOGIN") -> None:
        """Take mail only from those who signed in (`user@realm` → password), over TLS. Before `start`."""
        # Debian's Postfix looks here, whatever cyrus_sasl_config_path says.
        directory = self.configuration / "sasl"
        directory.mkdir(parents=True)
        directory.chmod(0o755)
        database = directory / "sasldb2"
        for login, password in logins.items():
            user, _, realm = login.partition("@")
            command = [
                str(programs.require("saslpasswd2")),
                "-p",
                "-c",
                "-f",
                str(database),
                "-u",
                realm,
                user,
            ]
            subprocess.run(command, input=password.encode(), check=True, timeout=30)
        shutil.chown(database, "postfix")
        configuration = directory / "smtpd.conf"
        configuration.write_text(
            "pwcheck_method: auxprop\nauxprop_plugin: sasldb\n"
            f"sasldb_path: {database}\nmech_list: {mechanisms}\n"
        )
        configuration.chmod(0o644)
        self._settings = {
            **self._settings,
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "cyrus",
            "smtpd_sasl_path": "smtpd",
            "smtpd_tls_auth_only": "yes",
            "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
        }

    def start(self) -> Self:
        """Start it and wait until it takes connections. Raises PostfixError."""
        programs.require("postfix")
        programs.require_root("A Postfix of the test's own")
        ports.require_free(self.port)
        for directory in (self.directory, self.configuration, self.directory / "queue"):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)
        data = self.directory / "data"
        data.mkdir(exist_ok=True, mode=0o700)
        shutil.chown(data, "postfix")
        self.mailbox.mkdir(exist_ok=True, mode=0o700)
        shutil.chown(self.mailbox, _NOBODY, _NOBODY)
        self._write_configuration()
        for table in self._sni_tables:
            self._run("postmap", "-c", str(self.configuration), "-F", f"hash:{table}")
        self._postfix("start")
        pid_file = self.directory / "queue" / "pid" / "master.pid"
        try:
            self._pid = int(pid_file.read_text())
            ports.wait_for_listener(self.port, self.address)
        except (OSError, ValueError, TimeoutError) as problem:
            raise PostfixError(f"{problem}\n{self.log}") from problem
        return self

    @property
    def pid(self) -> int:
        """Of its master. Raises PostfixError when it does not run."""
        if self._pid is None:
            raise PostfixError("it does not run")
        return self._pid

    def stop(self) -> None:
        """End it (SIGTERM to its master, which ends the others), and wait until it is gone."""
        if self._pid is None:
            return
        pid, self._pid = self._pid, None
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while _alive(pid):
            if time.monotonic() > deadline:
                raise PostfixError(f"master {pid} does not end\n{self.log}")
            time.sleep(0.02)

    def remove(self) -> None:
        """Stop it and remove everything of it."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.remove()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:  # pytest shows this with the failure
            print(f"--- log of {self.name} ---\n{self.log}")
        self.remove()

    def submit(
        self, message: bytes, *, to: str | Sequence[str], sender: str = "sender@client.example"
    ) -> None:
        """Hand `message` (LF line ends) to the sending role. Raises smtplib.SMTPException."""
        with smtplib.SMTP("127.0.0.1", self.port, timeout=30) as client:
            client.sendmail(
                sender,
                [to] if isinstance(to, str) else list(to),
                message.replace(b"\n", b"\r\n"),
                mail_options=["BODY=8BITMIME"],
            )

    def wait_said(self, words: str, *, seconds: float = 60) -> None:
        """Return once `words` stand in its log. Raises TimeoutError with that log."""
        try:
            waiting.until(lambda: words in self.log, seconds=seconds, what=f"{words!r}", every=0.05)
        except TimeoutError as problem:
            raise TimeoutError(f"{problem}; the log: {self.log}") from None

    def messages(self) -> list[bytes]:
        """All messages in the mailbox as they lie there: LF line ends, the headers of every hop in front."""
        new = self.mailbox / "new"
        return [path.read_bytes() for path in sorted(new.iterdir())] if new.is_dir() else []

    def message_ids(self) -> list[str]:
        """The Message-ID of every message in the mailbox, sorted; duplicates stay."""
        parse = BytesParser().parsebytes
        found: list[Message] = [parse(text, headersonly=True) for text in self.messages()]
        return sorted(str(message["Message-ID"]) for message in found)

    def queue(self) -> str:
        """What `postqueue -p` says."""
        return self._run("postqueue", "-c", str(self.configuration), "-p")

    def flush(self) -> None:
        """Try everything in the queue now."""
        self._run("postqueue", "-c", str(self.configuration), "-f")

    def _write(self, name: str, content: bytes, mode: int) -> Path:
        path = self.directory / name
        scratch = self.directory / f".{name}"
        scratch.write_bytes(content)
        scratch.chmod(mode)
        scratch.replace(path)
        return path

    def _write_configuration(self) -> None:
        lines = [f"{name} = {value}" for name, value in self._settings.items()]
        self._replace("main.cf", "\n".join(lines) + "\n")
        services = [_MASTER.format(port=f"{self.address}:{self.port}", processes=self._processes)]
        for place, different in self._also:
            options = "".join(f"  -o {{ {name} = {value} }}\n" for name, value in different.items())
            services.append(f"{place} inet n - n - {self._processes} smtpd\n{options}")
        self._replace("master.cf", "".join(services))

    def _replace(self, name: str, content: str) -> None:
        """Write a file whole: a process of Postfix may begin to read it at any time."""
        scratch = self.configuration / f".{name}"
        scratch.write_text(content)
        scratch.replace(self.configuration / name)

    def _postfix(self, action: str) -> None:
        self._run("postfix", "-c", str(self.configuration), action)

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(programs.require(program)), *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
        )
        text = done.stdout.decode(errors="replace")
        if done.returncode != 0:
            raise PostfixError(f"{program} {' '.join(arguments)}: {text}\n{self.log}")
        return text


def _names_to_match(match: Sequence[str]) -> dict[str, str]:
    """Settings for the names a relay's certificate may hold; an empty one would be fatal to Postfix."""
    if not match:
        return {}
    return dict.fromkeys(("smtp_tls_secure_cert_match", "smtp_tls_verify_cert_match"), ", ".join(match))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Ended and not yet collected by whoever adopted it is ended, for us.
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
