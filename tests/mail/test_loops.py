"""Two servers whose routes point at each other: a message goes round until its Received headers say so, and ends."""

from pathlib import Path

import pytest

from tests.harness import letters, ports, waiting
from tests.harness.certificates import Authority
from tests.harness.exim import Exim
from tests.harness.member import Member
from tests.harness.postfix import Postfix
from tests.harness.relay import LISTENER_NAME, Relay
from tests.harness.swaks import swaks


@pytest.mark.parametrize("mta", ["postfix", "exim"])
def test_a_message_that_goes_in_a_circle_is_refused_and_comes_to_rest(tmp_path: Path, mta: str) -> None:
    """The other one is not to end it: it bears twice as many hops as we do."""
    port = ports.free_port()
    with (
        Postfix.sending(port, tls="none", settings={"hopcount_limit": "60"})
        if mta == "postfix"
        else Exim.sending(port)
    ) as other:
        member = Member(tmp_path, workers=1)
        relay = Relay(member, other.port, Authority().issue(LISTENER_NAME), [], delivery="No", port=port)
        expected = relay.publish()
        with member:
            member.wait_ready().wait_running(expected)
            message = letters.letter(subject="round and round")
            # From nobody, so that nobody is told: a bounce would wait here for the sender's domain.
            assert swaks(relay.port, sender="<>", data=message, directory=tmp_path).accepted
            waiting.until(lambda: "5.4.6" in other.log, seconds=120, what="the end of the circle")
            waiting.until(lambda: member.queue() == 0, seconds=60, what="the member's queue to be empty")
            assert member.logged("refused: 554 Too many hops: the message goes in a circle")
