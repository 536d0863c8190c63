"""One member with a listener and a route: what the mail tests and the bench put between real MTAs."""

from dataclasses import dataclass, field
from typing import Any, Final

from letterlock_api.listener import ReceptionTLSMode
from letterlock_api.snapshot import (
    Destination,
    NextHop,
    ResolvedTLSMode,
    RetrySchedule,
    SnapshotDelivery,
    TrustList,
)
from tests.harness import mounts, ports
from tests.harness.member import Member
from tests.harness.mounts import Files

LISTENER_NAME: Final = "mx.letterlock.example"
MAILBOX_DOMAIN: Final = "mailbox.example"


@dataclass
class Relay:
    """A member that takes mail on one port and sends mail for `mailbox.example` to one next hop on loopback.

    Change a field, then `apply`: the member gets the whole new set in one swap.
    """

    member: Member
    next_hop_port: int
    listener_pem: bytes
    """Key and certificate of the listener."""
    trusted: list[bytes]
    """CA certificates that the next hop is verified against."""
    reception: ReceptionTLSMode = "Preferred"
    delivery: ResolvedTLSMode = "RequiredVerify"
    port: int = field(default_factory=ports.free_port)
    domain: str = MAILBOX_DOMAIN
    destination: dict[str, Any] = field(default_factory=dict[str, Any])
    """Further fields of the destination."""
    policy: dict[str, Any] = field(default_factory=dict[str, Any])
    """Further fields of the mail-flow policy."""
    listener: dict[str, Any] = field(default_factory=dict[str, Any])
    """Further fields of the listener."""
    outgoing: bytes | None = None
    """Key and certificate that are presented to the next hop, if it asks."""
    retry: RetrySchedule = field(default_factory=lambda: RetrySchedule(initial=1.0, max=2.0))

    def publish(self) -> str:
        """Write the set into the mount; gives the snapshot's hash."""
        files = Files()
        served = files.certificate(self.listener_pem)
        trust: dict[str, TrustList] = {"partners": files.trust(*self.trusted)} if self.trusted else {}
        to_mailbox = Destination(
            resource="mailbox",
            domains=[self.domain],
            tls_mode=self.delivery,
            routes=[NextHop(host="127.0.0.1", port=self.next_hop_port)],
            min_version="TLSv1.2",
            **self.destination,
        )
        policy = mounts.policy(tls_mode=self.reception, **self.policy)
        taken = mounts.snapshot(
            files,
            hostname=LISTENER_NAME,
            listeners=[mounts.listener(self.port, policies=[policy], certificates=[served], **self.listener)],
            destinations=[to_mailbox, mounts.destination()],
            delivery=SnapshotDelivery(
                retry=self.retry,
                certificate=files.certificate(self.outgoing, "outgoing") if self.outgoing else None,
            ),
            trust=trust,
        )
        return self.member.mount.publish(taken, files)

    def apply(self) -> None:
        """Publish, and wait until the member says that it runs it. Raises TimeoutError."""
        self.member.wait_running(self.publish())
