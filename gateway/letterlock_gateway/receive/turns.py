"""Whose turn it is: a worker's one event loop serves all its connections, and whoever asks much of it stands in line.

A client has an allowance of work; who goes beyond it has nothing more read until its turn has come, and between
two turns everybody else is served once. So what an honest session waits for at each of its steps is one piece of
one stranger's flood, however many strangers there are. Made by the reception, one for a worker; connections wait in it.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

# Octets a second that a worker reads of what nobody takes (refused texts, lines without end), of all clients together:
# it is read to be polite, so that they hear why (RFC 5321 section 4.2.5).
UNWANTED_A_SECOND: Final = 64 << 20


class Turns:
    """Two lines of clients that wait: one for what is wanted, served one a turn of the loop; one that is slow."""

    def __init__(self) -> None:
        self._wanted: deque[Callable[[], None]] = deque()
        self._unwanted: deque[tuple[Callable[[], None], float]] = deque()

    def wait(self, call: Callable[[], None]) -> None:
        """Have `call` made once everybody else, and all who came before, had their turn."""
        self._wanted.append(call)
        if len(self._wanted) == 1:
            asyncio.get_running_loop().call_soon(self._next)

    def wait_unwanted(self, call: Callable[[], None], work: int) -> None:
        """The same for a client whose `work` (octets) nobody wanted, and that of all others before it, is paid for."""
        self._unwanted.append((call, work / UNWANTED_A_SECOND))
        if len(self._unwanted) == 1:
            self._pay()

    def _next(self) -> None:
        call = self._wanted.popleft()
        if self._wanted:
            asyncio.get_running_loop().call_soon(self._next)
        call()

    def _pay(self) -> None:
        asyncio.get_running_loop().call_later(self._unwanted[0][1], self._next_unwanted)

    def _next_unwanted(self) -> None:
        call, _ = self._unwanted.popleft()
        if self._unwanted:
            self._pay()
        call()
