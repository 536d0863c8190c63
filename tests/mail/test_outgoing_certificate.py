"""One certificate for all outgoing TLS (D9): real MTAs that require one, and another that takes its place."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from letterlock_api.state import DestinationState
from tests.harness import letters, waiting
from tests.harness.certificates import Authority
from tests.harness.exim import Exim
from tests.harness.member import Member
from tests.harness.postfix import Postfix
from tests.harness.relay import LISTENER_NAME, MAILBOX_DOMAIN, Relay
from tests.harness.swaks import swaks

type Receiver = Postfix | Exim
RECEIVERS: Final = ("Postfix", "Exim")
# Postfix ends the handshake and says it then; Exim (GnuTLS) ends the handshake.
REFUSES: Final = {
    "Postfix": ("Unreachable", "No client certificate presented"),
    "Exim": ("HandshakeFailed", ""),
}


def requiring(kind: str, authority: Authority, clients: Authority) -> Receiver:
    """An MTA that takes mail only from clients with a certificate of `clients`."""
    pem = authority.issue(MAILBOX_DOMAIN)
    if kind == "Exim":
        return Exim.receiving(certificate=pem, client_ca=clients.pem)
    made = Postfix.receiving(certificate=pem)
    made.require_certificates(clients.pem)
    return made


def seen(receiver: Receiver, name: str) -> bool:
    """Whether the receiver saw this name in a client's certificate that it trusts."""
    if isinstance(receiver, Exim):
        return any(f"CN={name}" in line and " CV=yes" in line for line in receiver.log.splitlines())
    return any(
        f'(Client CN "{name}"'.encode() in one and b"verified OK" in one for one in receiver.messages()
    )


@pytest.fixture(params=RECEIVERS)
def receiver(request: pytest.FixtureRequest, clients: Authority, authority: Authority) -> Iterator[Receiver]:
    with requiring(request.param, authority, clients) as running:
        yield running


@pytest.fixture
def clients() -> Authority:
    """Whom the receiver's clients have their certificates from."""
    return Authority()


@pytest.fixture
def relay(receiver: Receiver, authority: Authority, tmp_path: Path) -> Iterator[Relay]:
    """A member before it, without a certificate for outgoing TLS."""
    with ExitStack() as ends:
        member = Member(tmp_path, workers=1)
        made = Relay(member, receiver.port, authority.issue(LISTENER_NAME), [authority.pem])
        expected = made.publish()
        ends.enter_context(member)
        member.wait_ready()
        member.wait_running(expected)
        yield made


def failing(relay: Relay) -> DestinationState | None:
    state = relay.member.destination("mailbox")
    return state if state and state.failing else None


def delays(relay: Relay) -> int:
    return sum(str(one["message"]).startswith("Delayed: ") for one in relay.member.log())


def send(relay: Relay, directory: Path) -> bytes:
    message = letters.letter(to=f"someone@{MAILBOX_DOMAIN}")
    done = swaks(relay.port, to=f"someone@{MAILBOX_DOMAIN}", data=message, directory=directory)
    assert done.accepted, done.text
    return message


def arrived(receiver: Receiver, message: bytes) -> None:
    waiting.until(lambda: letters.arrived(message, receiver.messages()), seconds=60, what="the message")


def test_a_receiver_that_requires_a_certificate_gets_the_one_of_today(
    relay: Relay, receiver: Receiver, clients: Authority, tmp_path: Path
) -> None:
    message = send(relay, tmp_path)
    state = waiting.until(lambda: failing(relay), seconds=60, what="the refusal")
    assert state.last_tls is not None
    reason, words = REFUSES[type(receiver).__name__]
    assert (state.failing[0].reason, state.last_tls.result) == (reason, reason)
    assert words in state.last_tls.reason
    assert receiver.messages() == []
    # One of a stranger is refused too.
    relay.outgoing = Authority().issue("stranger.example", common_name="stranger.example")
    relay.apply()
    tries = delays(relay)
    waiting.until(lambda: delays(relay) > tries + 1, seconds=60, what="a try with it, which is in vain")
    assert receiver.messages() == []
    workers = relay.member.worker_pids()
    for name in ("first.example", "second.example"):
        relay.outgoing = clients.issue(name, common_name=name)
        relay.apply()
        if name == "second.example":
            message = send(relay, tmp_path)
        # The first one is what the waiting message has waited for: nobody sends it again.
        arrived(receiver, message)
        waiting.until(lambda name=name: seen(receiver, name), seconds=60, what=f"{name} at the receiver")
    assert relay.member.worker_pids() == workers
    assert len(receiver.messages()) == 2
