"""What a directory is and how to talk to it. Made by `running` from the snapshot; equal settings share connections."""

from dataclasses import dataclass, field
from typing import Literal

from letterlock_gateway.tls.trust import TrustStore


class Unavailable(Exception):  # noqa: N818 - says what the directory is
    """No server gave an answer that can be used. The text says why, and holds no secret."""


@dataclass(frozen=True)
class Server:
    """One server, as the administrator wrote it."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Settings:
    """One directory."""

    name: str
    servers: tuple[Server, ...]
    """Tried in this order."""
    tls: Literal["LDAPS", "StartTLS", "None"]
    base: str
    """Where the search begins; it covers everything below."""
    bind: str = ""
    password: str = field(default="", repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    """Ours: key and chain, PEM."""
    trust: TrustStore = field(default_factory=TrustStore.from_pem, repr=False)
    """What servers are verified against."""


def server(text: str, tls: Literal["LDAPS", "StartTLS", "None"]) -> Server:
    """`host`, `host:port` or `[address]:port`. Raises ValueError."""
    default = 636 if tls == "LDAPS" else 389
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    number = int(port) if port else default
    if not 0 < number < 65536:
        raise ValueError(f"{text} has no valid port")
    return Server(host, number)
