"""What alerts a member has sent, on its disk beside the spools: a restart repeats none. Called by `alerting`."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from letterlock_gateway.report.alerts import Told
from letterlock_gateway.report.endings import Remembered
from letterlock_gateway.spool.schema import sync_directory

NAME: Final = "alerts.json"


@dataclass(frozen=True)
class Records:
    """All of it."""

    told: Told = field(default_factory=lambda: Told({}))
    endings: Remembered = field(default_factory=dict[str, tuple[int, float]])


def read(spool: Path) -> Records:
    """What was written last; nothing, where there is no such file. Raises OSError, ValueError (no such text)."""
    try:
        text = (spool / NAME).read_text()
    except FileNotFoundError:
        return Records()
    try:
        values = cast("Mapping[str, Any]", json.loads(text))
        domains = {str(domain): float(at) for domain, at in values["domains"].items()}
        messages = tuple(float(at) for at in values["messages"])
        endings = {str(key): (int(step), float(end)) for key, (step, end) in values["endings"].items()}
    except (AttributeError, KeyError, TypeError) as problem:
        raise ValueError(f"not what was written: {problem!r}") from problem
    return Records(Told(domains, messages), endings)


def write(spool: Path, records: Records) -> None:
    """Keep `records`: all of them or, if the machine dies, those before. Raises OSError."""
    text = json.dumps(
        {
            "domains": records.told.domains,
            "messages": records.told.messages,
            "endings": records.endings,
        }
    )
    replace_file(spool / NAME, text)


def replace_file(path: Path, text: str) -> None:
    """Put `text` at `path`, for us alone: all of it or, if the machine dies, what was there. Raises OSError."""
    scratch = path.with_name(f"{path.name}.new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    sync_directory(path.parent)
