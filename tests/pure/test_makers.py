"""Keys are made in other processes: what goes wrong there comes back whole, and the next work gets new processes."""

import os
import signal

import pytest

from letterlock_api.conditions import Reason
from letterlock_operator import orders
from letterlock_operator.act.makers import Makers
from letterlock_operator.decide.pems import Refused
from letterlock_operator.plan import Import
from tests.decide.builders import NOW


@pytest.fixture
def makers():
    found = Makers()
    yield found
    found.close()


async def test_a_refusal_comes_back_with_its_reason(makers: Makers):
    order = Import("s", "Certificate/mx", b"no file", b"secret", "of-this")
    with pytest.raises(Refused) as refused:
        await makers.run(orders.data, order, None, NOW)
    assert refused.value.reason == Reason.INVALID_PKCS12
    assert "not a PKCS#12 file" in str(refused.value)
    assert await makers.run(abs, -1) == 1, "the processes are none the worse for it"


async def test_a_process_that_is_killed_is_replaced(makers: Makers):
    from concurrent.futures.process import BrokenProcessPool

    pid = await makers.run(os.getpid)
    os.kill(pid, signal.SIGKILL)

    async def until_noticed() -> None:
        for _ in range(100):
            await makers.run(abs, -1)

    with pytest.raises(BrokenProcessPool):
        await until_noticed()
    assert await makers.run(abs, -1) == 1
