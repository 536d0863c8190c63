"""Members with pages, shared by the tests of a file where they do not change them."""

from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.web.managed import Managed, managed


@pytest.fixture
def member_with(tmp_path: Path) -> Generator[Callable[..., Managed]]:
    """Starts a member whose pages have these users, this pair, …; it ends with the test."""
    with ExitStack() as stack:

        def start(**fields: Any) -> Managed:
            return stack.enter_context(managed(tmp_path, **fields))

        yield start
