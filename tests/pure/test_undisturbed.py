"""The search for cyclic garbage rests while anybody decides, and no longer."""

import gc
import threading

import pytest

from letterlock_operator.undisturbed import undisturbed


def test_it_rests_until_the_last_one_is_done() -> None:
    inside, leave = threading.Event(), threading.Event()

    def decide() -> None:
        with undisturbed():
            inside.set()
            leave.wait(10)

    other = threading.Thread(target=decide)
    with undisturbed():
        assert not gc.isenabled()
        other.start()
        assert inside.wait(10)
    assert not gc.isenabled(), "the other one still decides"
    leave.set()
    other.join(10)
    assert gc.isenabled()


def test_it_goes_on_after_a_mistake() -> None:
    with pytest.raises(ValueError, match="a mistake"), undisturbed():
        raise ValueError("a mistake")
    assert gc.isenabled()
