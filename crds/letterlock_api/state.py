"""What a member says of itself (gateway → operator), as JSON at `GET /state` over mutual TLS."""

from typing import Final

from pydantic import Field

from letterlock_api.base import Lenient
from letterlock_api.destinationcontrol import FailingDomain, LastTLS

STATE_PATH: Final = "/state"
# Where a member takes messages of another one that is to go: same port, same CA, but only members may.
HANDOVER_PATH: Final = "/handover"
# What the management pages of one member ask those of the others: same port, members only, and nothing but reading.
LOOK_PATH: Final = "/look"
STATE_PORT: Final = 9443
HEALTH_PORT: Final = 9080
# Files of the member's own TLS identity towards the operator, in the same mount.
INTERNAL_CERTIFICATE_FILE: Final = "member-tls.pem"
INTERNAL_CA_FILE: Final = "member-ca.pem"
INTERNAL_SERVER_NAME: Final = "member.letterlock.internal"
INTERNAL_CLIENT_NAME: Final = "operator.letterlock.internal"


class ListenerState(Lenient):
    """One listener on this member."""

    name: str
    listening: bool
    """True only when every worker accepts connections on it under the running snapshot."""
    problem: str | None = None
    """For people: why not."""


class DestinationState(Lenient):
    """What deliveries of one DestinationControl came to on this member."""

    resource: str
    last_tls: LastTLS | None = None
    failing: list[FailingDomain] = Field(default_factory=list[FailingDomain])


class MemberState(Lenient):
    """All that a member says of itself."""

    member: str
    version: str = ""
    """Of the program."""
    snapshot: str = ""
    """Hash of the snapshot that every worker runs; empty: none yet."""
    refused: str = ""
    """Hash of a newer snapshot in the mount that was not taken; empty: none."""
    refused_reason: str = ""
    """For people: why it was not taken."""
    digests: dict[str, str] = Field(default_factory=dict)
    """Of the running snapshot."""
    listeners: list[ListenerState] = Field(default_factory=list[ListenerState])
    destinations: list[DestinationState] = Field(default_factory=list[DestinationState])
    queue: int = 0
    """Recipients not yet delivered or bounced."""
    drained: int = 0
    """The order (`Snapshot.drains`) under which it takes nothing in and holds nothing any more; 0: none."""
    problems: list[str] = Field(default_factory=list)
    """For people: whatever else is wrong."""
