"""A member whose pages have something to show: a day of mail, 10,000 destinations, hostile names, trouble."""

import asyncio
import smtplib
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from letterlock_api.mailgateway import AlertType, Severity
from letterlock_api.snapshot import (
    AccessGroup,
    NextHop,
    SnapshotAlertRecipient,
    SnapshotAlerts,
    SnapshotDelivery,
)
from letterlock_gateway.spool import NewMessage, NewRecipient, Spool
from letterlock_gateway.spool.changes import Hop
from tests.harness.certificates import Authority
from tests.harness.issued import Issued
from tests.harness.mounts import destination, listener, policy
from tests.harness.ports import free_port
from tests.harness.waiting import until
from tests.web.managed import Managed, managed

SMTP, CLOSED = free_port(), free_port()
# Of the day before: (messages in encrypted, in clear; recipients out verified, encrypted, in clear; bounced).
DAY: Final = (168, 43, 71, 69, 70, 1)
_HALF_HOUR: Final = 1800
MANY: Final = 10_000
HOSTILE: Final = "<script>alert(1)</script>"
# In an address: what SMTP lets through.
HOSTILE_LOCAL: Final = '"<img src=x onerror=alert(2)>"'
NOW: Final = datetime.now(UTC)


def fill_day(member_spool: Path) -> None:
    """Mail of the last day, through the spool's own door with a clock that is set."""
    # In a thread: a test may have an event loop of its own here.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _fill(member_spool / "0")).result()


async def _fill(directory: Path) -> None:
    member_spool = directory.parent
    member_spool.mkdir(parents=True, exist_ok=True)
    now = [0.0]
    spool = await Spool.open(directory, lambda: now[0])
    began = (time.time() // _HALF_HOUR - 46) * _HALF_HOUR + 60
    serial = 0
    for step in range(46):
        now[0] = began + step * _HALF_HOUR
        for _ in range(2 + (step * 7) % 9 // 2 + (3 if 16 < step < 30 else 0)):
            await _one(spool, serial)
            serial += 1
    await spool.close()


async def _one(spool: Spool, serial: int) -> None:
    clear = serial % 5 == 0
    mid = await spool.store(
        NewMessage(
            sender=f"person-{serial}@sender-{serial % 7}.example",
            recipients=(NewRecipient(f"user-{serial}@domain-{serial % 40}.example"),),
            body=f"Message-ID: <{serial}@sender.example>\r\nSubject: x\r\n\r\nhi\r\n".encode(),
            icid=serial + 1,
            received_protocol=None if clear else "TLSv1.3",
            received_cipher=None if clear else "TLS_AES_256_GCM_SHA384",
            client="mx.sender.example [192.0.2.25]",
        )
    )
    rids = [one.rid for one in await spool.waiting([mid])]
    if serial == 7:
        await spool.bounced(rids, reason="550 5.1.1 No such user", notice=None)
        return
    how = serial % 3
    hop = Hop(
        "mx.domain.example",
        "198.51.100.7",
        *(
            (None, None, None, None)
            if how == 2
            else ("TLSv1.3", "TLS_AES_256_GCM_SHA384", how == 0, "domain.example" if how == 0 else None)
        ),
    )
    await spool.delivered(rids, hop=hop, reply="250 2.0.0 Ok: queued as 4WxYz")


@contextmanager
def populated(directory: Path, *, many: int = MANY) -> Generator[Managed]:
    """Such a member, with `many` destination controls."""
    with managed(directory, before=fill_day) as found:
        files = found.files
        bad_ca = Issued.make(f"CA {HOSTILE}", ca=True, signs=True, days=(-300, 20), now=NOW)
        soon = Issued.make(HOSTILE, names=["soon.example"], days=(-300, 9), now=NOW)
        served = files.certificate(
            Authority().issue("mx.letterlock.example", common_name="mx.letterlock.example")
        )
        demo = files.certificate(soon.key_pem + soon.pem, "", demo=True)
        trust = {
            "system": files.trust(Authority().pem, Authority().pem),
            "own": files.trust(bad_ca.pem, is_global=False),
        }
        severities: list[Severity] = ["Critical", "Warning"]
        kinds: list[AlertType] = ["System"]
        found.publish(
            found.snapshot(
                listeners=[
                    listener(
                        SMTP,
                        certificates=[served, demo],
                        policies=[
                            policy(tls_mode="Preferred"),
                            policy("partners", behavior="Relay", tls_mode="Required"),
                        ],
                        groups=[
                            AccessGroup(
                                name="partners",
                                senders=["192.0.2.0/24", ".partner.example"],
                                policy="partners",
                            ),
                            AccessGroup(name="all", senders=["ALL"], policy="accept"),
                        ],
                    )
                ],
                destinations=[
                    destination(routes=[NextHop(host="127.0.0.1", port=CLOSED)]),
                    *(
                        destination(
                            f"domain-{number}.example",
                            f".domain-{number}.example",
                            resource=f"control-{number}",
                            tls_mode="RequiredVerify",
                            routes=[NextHop(host="127.0.0.1", port=CLOSED)],
                        )
                        for number in range(many)
                    ),
                ],
                delivery=SnapshotDelivery(tls_alert=True),
                alerts=SnapshotAlerts(
                    recipients=[
                        SnapshotAlertRecipient(address="ops@here.example", severities=severities, types=kinds)
                    ]
                ),
                trust=trust,
                digests={"CAList/old": "off"},
            )
        )
        with smtplib.SMTP("127.0.0.1", SMTP, timeout=60) as client:
            client.ehlo("client.example")
            for number in range(3):
                client.sendmail(
                    f"{HOSTILE_LOCAL}@sender.example",
                    [f"user@domain-{number}.example"],
                    f"Message-ID: <{HOSTILE}-{number}@x>\r\n\r\nhi\r\n",
                )

        def failing() -> bool:
            state = found.member.state()
            domains = (
                {bad.domain for one in state.destinations for bad in one.failing} if state else set[str]()
            )
            return {f"domain-{number}.example" for number in range(3)} <= domains

        until(failing, what="deliveries that failed", seconds=120)
        yield found
