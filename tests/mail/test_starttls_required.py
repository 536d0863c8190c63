"""RFC 3207 on a listener that requires TLS, command by command, over a bare socket."""

import socket
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from typing import BinaryIO

import pytest

from tests.mail.between import MakeBetween


class Dialogue:
    """One SMTP session, a command at a time."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._file: BinaryIO = connected.makefile("rb")

    def read(self) -> bytes:
        """One whole reply."""
        lines: list[bytes] = []
        while True:
            line = self._file.readline()
            lines.append(line)
            if line[3:4] != b"-":
                return b"".join(lines)

    def say(self, command: bytes) -> bytes:
        """The reply to one command."""
        self._socket.sendall(command + b"\r\n")
        return self.read()

    def send(self, data: bytes) -> None:
        """Raw bytes."""
        self._socket.sendall(data)

    def start_tls(self) -> None:
        """The handshake, after the 220."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._file.close()
        self._socket = context.wrap_socket(self._socket)
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        """End it."""
        self._file.close()
        self._socket.close()


@contextmanager
def dialogue(port: int) -> Generator[Dialogue]:
    """A session after its greeting."""
    connected = socket.create_connection(("127.0.0.1", port), timeout=20)
    session = Dialogue(connected)
    try:
        assert session.read().startswith(b"220 mx.letterlock.example ")
        yield session
    finally:
        session.close()


def test_only_noop_ehlo_starttls_and_quit_work_before_tls(between: MakeBetween) -> None:
    made = between(reception="Required")
    with dialogue(made.port) as session:
        refused = [
            b"MAIL FROM:<a@client.example>",
            b"RCPT TO:<someone@mailbox.example>",
            b"DATA",
            b"RSET",
            b"VRFY someone",
            b"HELP",
            b"AUTH PLAIN AGEAYg==",
        ]
        for before_ehlo in (True, False):
            for command in refused:
                answer = session.say(command)
                assert answer.startswith(b"530 5.7.0 Must issue a STARTTLS command first"), (
                    command,
                    before_ehlo,
                    answer,
                )
            assert session.say(b"NOOP").startswith(b"250")
            assert b"STARTTLS" in session.say(b"EHLO client.example")
        assert session.say(b"QUIT").startswith(b"221")


def test_after_starttls_all_is_forgotten_and_starttls_is_not_offered_again(between: MakeBetween) -> None:
    made = between(reception="Preferred")
    with dialogue(made.port) as session:
        session.say(b"EHLO client.example")
        assert session.say(b"MAIL FROM:<a@client.example>").startswith(b"250")
        assert session.say(b"STARTTLS").startswith(b"220")
        session.start_tls()
        # Neither the EHLO nor the sender of before TLS count (RFC 3207, 4.2).
        assert session.say(b"RCPT TO:<someone@mailbox.example>").startswith(b"503")
        offer = session.say(b"EHLO client.example")
        assert b"STARTTLS" not in offer
        assert b"AUTH" not in offer
        assert session.say(b"RCPT TO:<someone@mailbox.example>").startswith(b"503")
        assert session.say(b"STARTTLS").startswith(b"5")
        assert session.say(b"MAIL FROM:<a@client.example>").startswith(b"250")
        assert session.say(b"RCPT TO:<someone@mailbox.example>").startswith(b"250")


def test_commands_injected_behind_starttls_never_count(between: MakeBetween) -> None:
    """A plain-text attacker's commands, put into the same packet as STARTTLS (CVE-2011-0411)."""
    made = between(reception="Preferred")
    with dialogue(made.port) as session:
        session.say(b"EHLO client.example")
        session.send(b"STARTTLS\r\nMAIL FROM:<attacker@client.example>\r\n")
        answer = session.read()
        if not answer.startswith(b"220"):
            assert answer[:1] in (b"4", b"5")
            return
        try:
            session.start_tls()
        except (ssl.SSLError, ConnectionError):
            return
        session.say(b"EHLO client.example")
        assert session.say(b"RCPT TO:<someone@mailbox.example>").startswith(b"503")


@pytest.mark.parametrize("mode", ["No", "Preferred"])
def test_the_offer_follows_the_mode(between: MakeBetween, mode: str) -> None:
    made = between(reception=mode)
    with dialogue(made.port) as session:
        assert (b"STARTTLS" in session.say(b"EHLO client.example")) == (mode == "Preferred")
        assert session.say(b"STARTTLS").startswith(b"220" if mode == "Preferred" else b"5")
