"""Counts message ids on both ends: what was acknowledged, and what came of it at the receiving Postfix."""

from collections import defaultdict
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser

from tests.harness.postfix import Postfix


@dataclass
class Ledger:
    """What lies in the receiver's mailbox. `read` takes in what is new there."""

    receiver: Postfix
    arrived: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """When copies of a message came, Unix seconds, by Message-ID."""
    bounced: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Bounces about a message, by its Message-ID."""
    in_clear: list[str] = field(default_factory=list[str])
    """Message-IDs of what did not come over TLS, as the receiver's own Received header tells."""
    _seen: set[str] = field(default_factory=set[str])

    def read(self) -> None:
        """Take in what has come since."""
        new = self.receiver.mailbox / "new"
        for path in new.iterdir() if new.is_dir() else ():
            if path.name in self._seen:
                continue
            self._seen.add(path.name)
            message = BytesParser().parsebytes(path.read_bytes())
            identity = str(message["Message-ID"])
            if "(using TLS" not in str(message["Received"]):
                self.in_clear.append(identity)
            if message.get_content_type() == "multipart/report":
                for about in _about(message):
                    self.bounced[about] += 1
            else:
                self.arrived[identity].append(path.stat().st_mtime)

    def missing(self, acknowledged: list[str]) -> set[str]:
        """What got its 250 and was neither delivered nor bounced so far."""
        self.read()
        return {one for one in acknowledged if one not in self.arrived and one not in self.bounced}

    def copies(self) -> dict[str, list[float]]:
        """Messages that came more than once: when."""
        return {one: sorted(times) for one, times in self.arrived.items() if len(times) > 1}


def _about(report: Message) -> list[str]:
    found: list[str] = []
    for part in report.walk():
        if part.get_content_type() == "text/rfc822-headers":
            header = BytesParser().parsebytes(part.get_payload(decode=True) or b"", headersonly=True)  # pyright: ignore[reportArgumentType]
            found.append(str(header["Message-ID"]))
    return found
