"""The x509-limbo conformance corpus: certificate chains, each with the result that a verifier should give.

Kept here in a compact form (`tests/data`), without what no test reads: private keys, revocation lists, texts.
`python -m tests.harness.limbo FILE` writes it anew from the corpus's own JSON.
"""

import base64
import gzip
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

COMPACT: Final = Path(__file__).parents[1] / "data" / "x509-limbo.json.gz"
# Cases that name no time are for "now"; their certificates are valid until 2969.
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Case:
    """One chain, and what a verifier should say of it."""

    name: str
    trusted: tuple[bytes, ...]
    """The anchors, PEM."""
    presented: tuple[bytes, ...]
    """Leaf first, DER."""
    moment: datetime
    client: bool
    """Whether the leaf is a client's."""
    dns_name: str | None
    """The name that it should be good for; None: the case is not about one, or about an address or a mailbox."""
    good: bool

    @property
    def group(self) -> str:
        """The feature group: all but the last part of the name."""
        return self.name.rpartition("::")[0]


def cases() -> list[Case]:
    """The whole corpus."""
    return [_case(one) for one in json.loads(gzip.decompress(COMPACT.read_bytes()))]


def compact(source: Path) -> None:
    """Write the compact form of the corpus in `source`."""
    found = [
        {
            "id": one["id"],
            "trusted": [_base64(pem) for pem in one["trusted_certs"]],
            "presented": [_base64(pem) for pem in (one["peer_certificate"], *one["untrusted_intermediates"])],
            "time": one["validation_time"],
            "kind": one["validation_kind"],
            "name": one["expected_peer_name"],
            "result": one["expected_result"],
        }
        for one in json.loads(source.read_bytes())["testcases"]
    ]
    text = json.dumps(found, separators=(",", ":"), sort_keys=True)
    COMPACT.write_bytes(gzip.compress(text.encode(), mtime=0))


def _case(one: dict[str, Any]) -> Case:
    name: dict[str, str] = one["name"] or {}
    return Case(
        name=one["id"],
        trusted=tuple(
            f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n".encode()
            for text in one["trusted"]
        ),
        presented=tuple(base64.b64decode(text) for text in one["presented"]),
        moment=datetime.fromisoformat(one["time"]) if one["time"] else _NOW,
        client=one["kind"] == "CLIENT",
        dns_name=name["value"] if name.get("kind") == "DNS" else None,
        good=one["result"] == "SUCCESS",
    )


def _base64(pem: str) -> str:
    return "".join(line for line in pem.splitlines() if line and not line.startswith("-----"))


if __name__ == "__main__":
    compact(Path(sys.argv[1]))
