"""What the mail tests share: a relay between real MTAs."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.harness.certificates import Authority
from tests.harness.member import Member
from tests.harness.postfix import Postfix
from tests.harness.relay import LISTENER_NAME, MAILBOX_DOMAIN, Relay
from tests.mail.between import Between, MakeBetween


@pytest.fixture
def authority() -> Authority:
    """The CA of everybody, unless a test brings others."""
    return Authority()


@pytest.fixture
def between(tmp_path: Path, authority: Authority) -> Iterator[MakeBetween]:
    """Makes a member that relays to a real Postfix, both running: `between(reception="Required")`.

    `mailbox_pem`: key and certificate of the receiving Postfix, for the recipient domain unless given.
    `trusted`: CA certificates. `receiving` False: Postfix is not started. Others are fields of the relay.
    """
    with ExitStack() as ends:

        def make(
            *,
            mailbox_pem: bytes | None = None,
            trusted: list[bytes] | None = None,
            receiving: bool = True,
            workers: int = 0,
            **fields: Any,
        ) -> Between:
            receiver = Postfix.receiving(certificate=mailbox_pem or authority.issue(MAILBOX_DOMAIN))
            ends.callback(receiver.remove)
            if receiving:
                ends.enter_context(receiver)
            member = Member(tmp_path, workers=workers)
            made = Relay(
                member,
                receiver.port,
                authority.issue(LISTENER_NAME),
                [authority.pem] if trusted is None else trusted,
                **fields,
            )
            expected = made.publish()
            ends.enter_context(member)
            member.wait_ready()
            member.wait_running(expected)
            return Between(made, member, receiver)

        yield make
