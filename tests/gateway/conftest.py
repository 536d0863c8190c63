"""Tests of the gateway run on the event loop that the gateway runs on."""

from collections.abc import Mapping

import uvloop
from pytest_asyncio.plugin import LoopFactory


def pytest_asyncio_loop_factories() -> Mapping[str, LoopFactory]:
    """The one loop, uvloop's."""
    return {"uvloop": uvloop.new_event_loop}
