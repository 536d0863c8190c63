"""RequiredVerify when Postfix cannot be verified: mail stays, the reason is said, and trust heals it."""

from pathlib import Path

import pytest

from letterlock_api.state import DestinationState
from tests.harness import letters, waiting
from tests.harness.certificates import Authority
from tests.harness.relay import MAILBOX_DOMAIN
from tests.harness.swaks import swaks
from tests.mail.between import Between, MakeBetween


def wait_failing(made: Between, reason: str) -> DestinationState:
    """The destination's state, once it says that the domain fails for this reason."""

    def seen() -> DestinationState | None:
        state = made.member.destination("mailbox")
        return state if state and any(one.reason == reason for one in state.failing) else None

    try:
        return waiting.until(seen, what=f"failing with {reason}")
    except TimeoutError as problem:
        raise TimeoutError(f"{problem}; state: {made.member.state()}") from None


def test_an_unknown_ca_keeps_the_message_until_the_ca_is_trusted(
    between: MakeBetween, tmp_path: Path
) -> None:
    other = Authority()
    made = between(mailbox_pem=other.issue(MAILBOX_DOMAIN))
    message = letters.letter()
    assert swaks(made.port, data=message, directory=tmp_path).accepted
    state = wait_failing(made, "NotTrusted")
    assert [one.domain for one in state.failing] == [MAILBOX_DOMAIN]
    assert state.last_tls is not None
    assert (state.last_tls.result, state.last_tls.verified) == ("NotTrusted", False)
    assert made.member.queue() == 1
    assert made.receiver.messages() == []
    # Nobody sends it again: trusting the CA is enough.
    made.relay.trusted.append(other.pem)
    made.relay.apply()
    made.wait_arrived(message)

    def healed() -> bool:
        state = made.member.destination("mailbox")
        return bool(state and not state.failing and state.last_tls and state.last_tls.verified)

    waiting.until(healed, what="the destination to be well again")
    made.wait_queue(0)
    assert len(made.receiver.messages()) == 1


def test_trust_is_not_waited_for_when_the_next_retry_is_an_hour_away(
    between: MakeBetween, tmp_path: Path
) -> None:
    other = Authority()
    made = between(mailbox_pem=other.issue(MAILBOX_DOMAIN))
    made.relay.retry = made.relay.retry.model_copy(update={"initial": 3600.0, "max": 3600.0})
    made.relay.apply()
    message = letters.letter()
    assert swaks(made.port, data=message, directory=tmp_path).accepted
    wait_failing(made, "NotTrusted")
    made.relay.trusted.append(other.pem)
    made.relay.apply()
    made.wait_arrived(message)


def test_a_certificate_for_another_host_keeps_the_message(
    between: MakeBetween, authority: Authority, tmp_path: Path
) -> None:
    made = between(mailbox_pem=authority.issue("other.example"))
    message = letters.letter()
    assert swaks(made.port, data=message, directory=tmp_path).accepted
    wait_failing(made, "NameMismatch")
    assert made.member.queue() == 1
    assert made.receiver.messages() == []
    # The names that were asked for and those that were presented are both in the log.
    assert made.member.logged("other.example")
    made.receiver.use_certificate(authority.issue(MAILBOX_DOMAIN))
    made.wait_arrived(message)


def test_a_next_hop_without_starttls_gets_nothing_in_clear(
    between: MakeBetween, authority: Authority, tmp_path: Path
) -> None:
    made = between()
    made.receiver.use_certificate(None)
    message = letters.letter()
    assert swaks(made.port, data=message, directory=tmp_path).accepted
    wait_failing(made, "TLSNotOffered")
    assert made.receiver.messages() == []
    assert made.member.queue() == 1
    made.receiver.use_certificate(authority.issue(MAILBOX_DOMAIN))
    made.wait_arrived(message)


@pytest.mark.parametrize("mode", ["Preferred", "Required", "PreferredVerify"])
def test_modes_that_do_not_insist_deliver_encrypted_all_the_same(
    between: MakeBetween, tmp_path: Path, mode: str
) -> None:
    made = between(mailbox_pem=Authority().issue("other.example"), delivery=mode)
    message = letters.letter()
    assert swaks(made.port, data=message, directory=tmp_path).accepted
    found = made.wait_arrived(message)
    assert "using TLSv1.3" in letters.added_headers(message, found)
    last = made.wait_last_tls("Delivered")
    assert last.protocol == "TLSv1.3"
    assert not last.verified
