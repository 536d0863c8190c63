"""Shows what `letterlock up` does: a live table on a terminal, a line per change elsewhere.

Called by `reconcile`.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from letterlock_api.conditions import Condition
from letterlock_api.kinds import KINDS
from letterlock_cli import output
from letterlock_operator.plan import AnyStatus

type Statuses = Mapping[tuple[str, str], AnyStatus]
# Conditions that are good news when True; every other type is a warning while it stands.
POSITIVE: Final = ("Accepted", "ResolvedRefs", "Ready", "Programmed", "Delivering")
_COLOURS: Final = {"True": "green", "False": "red", "Unknown": "yellow"}


class Screen(Protocol):
    """Where to show things."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def note(self, text: str) -> None:
        """One line that is good to know."""
        ...

    def warn(self, text: str) -> None:
        """One line that needs attention: a warning of a member, a file that was not taken."""
        ...

    def problems(self, problems: Sequence[str]) -> None:
        """What is wrong in the folder now, instead of what was before."""
        ...

    def show(self, statuses: Statuses) -> None:
        """How things stand."""
        ...


def screen() -> Screen:
    """The one that fits where our output goes."""
    return LiveTable() if sys.stdout.isatty() else Lines()


class Lines:
    """One line per condition that changed, on stdout; what needs attention on stderr."""

    def __init__(self) -> None:
        self._shown: dict[tuple[str, str, str], tuple[str, str, str]] = {}
        self._problems: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def note(self, text: str) -> None:
        """See Screen."""
        print(text, flush=True)

    def warn(self, text: str) -> None:
        """See Screen."""
        print(text, file=sys.stderr, flush=True)

    def problems(self, problems: Sequence[str]) -> None:
        """See Screen."""
        now = set(problems)
        for problem in sorted(now - self._problems):
            self.warn(f"error: {problem}")
        for file in sorted(_files(self._problems) - _files(now)):
            self.note(f"{file}: taken again")
        self._problems = now

    def show(self, statuses: Statuses) -> None:
        """See Screen."""
        current: dict[tuple[str, str, str], tuple[str, str, str]] = {}
        for (kind, name), status in in_order(statuses):
            for condition in status.conditions:
                key = (kind, name, condition.type)
                current[key] = (condition.status, condition.reason, condition.message)
                if self._shown.get(key) != current[key]:
                    print(f"{kind}/{name} {describe(condition)}", flush=True)
                    if warns(condition):
                        self.warn(f"warning: {kind}/{name} {condition.type}: {condition.message}")
        for kind, name, condition_type in self._shown.keys() - current.keys():
            print(f"{kind}/{name} {condition_type} no longer", flush=True)
        self._shown = current


class LiveTable:
    """A table that is redrawn in place, with the latest lines below it."""

    _KEPT = 8

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="visible")
        self._lines: list[Text] = []
        self._table = Table()
        self._problems: list[str] = []
        self._warned: set[str] = set()

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def note(self, text: str) -> None:
        """See Screen."""
        self._add(Text(text))

    def warn(self, text: str) -> None:
        """See Screen."""
        self._add(Text(text, style="yellow"))
        _elsewhere(text)

    def _add(self, line: Text) -> None:
        self._lines = [*self._lines, line][-self._KEPT :]
        self._draw()

    def problems(self, problems: Sequence[str]) -> None:
        """See Screen."""
        self._problems = list(problems)
        self._draw()

    def show(self, statuses: Statuses) -> None:
        """See Screen."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("KIND", "NAME", "CONDITIONS", "MESSAGE"):
            table.add_column(heading, overflow="fold")
        for (kind, name), status in in_order(statuses):
            words = Text(" ").join(
                Text(c.type if c.status == "True" else f"{c.type}={c.status}", style=colour(c))
                for c in status.conditions
            )
            table.add_row(kind, name, words, "\n".join(c.message for c in status.conditions if attention(c)))
            for c in filter(warns, status.conditions):
                text = f"warning: {kind}/{name} {c.type}: {c.message}"
                if text not in self._warned:
                    self._warned.add(text)
                    _elsewhere(text)  # the table shows it
        self._table = table
        self._draw()

    def _draw(self) -> None:
        below = [Text(f"error: {problem}", style="red") for problem in self._problems] + self._lines
        hint = Text("Edit the files: changes are taken while this runs. Ctrl-C ends it.", style="dim")
        self._live.update(Group(self._table, *below, hint), refresh=True)


def warns(condition: Condition) -> bool:
    """Whether it is a warning that stands, such as DemoCertificate."""
    return condition.status == "True" and condition.type not in output.POSITIVE


def _elsewhere(text: str) -> None:
    """On stderr too, where that is not the terminal with the table: rich takes `sys.stderr` over."""
    stderr = sys.__stderr__
    if stderr is not None and not stderr.isatty():
        print(text, file=stderr, flush=True)


def attention(condition: Condition) -> bool:
    """Whether the condition asks for something: a positive one that is not True, or a warning."""
    return (condition.status == "True") != (condition.type in POSITIVE) and condition.reason != "NoTraffic"


def colour(condition: Condition) -> str:
    """Green is good, red needs attention, yellow is not known."""
    return _COLOURS[condition.status] if condition.type in POSITIVE else "yellow"


def describe(condition: Condition) -> str:
    """One condition on one line."""
    message = " ".join(condition.message.split())
    return f"{condition.type}={condition.status} ({condition.reason})" + (f": {message}" if message else "")


def _files(problems: Iterable[str]) -> set[str]:
    return {problem.partition(":")[0] for problem in problems}


def in_order(statuses: Statuses) -> list[tuple[tuple[str, str], AnyStatus]]:
    """By kind as people think of them (the gateway first), then by name."""
    kinds = list(KINDS)
    return sorted(statuses.items(), key=lambda item: (kinds.index(item[0][0]), item[0][1]))
