"""What crowds that vanish leave behind in a running member: memory and descriptors of its workers, files of its spool.

`make vanish` runs it behind the test that counts objects; here it is processes of their own, over real time.
"""

import asyncio
import tempfile
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import psutil

from tests.gateway.receiving import trusting
from tests.harness import mounts, ports, waiting
from tests.harness.certificates import Authority
from tests.harness.member import Member
from tests.harness.mounts import Files
from tests.harness.vanishing import STATES, vanish

CROWD: Final = 5000
CROWDS: Final = 4
_AT_A_TIME: Final = 50


def main() -> None:
    """Crowd after crowd; after each, what is held."""
    with tempfile.TemporaryDirectory(prefix="letterlock-vanish-") as folder:
        authority = Authority()
        member = Member(Path(folder), workers=2)
        port = ports.free_port()
        files = Files()
        served = files.certificate(authority.issue("mx.here.example"))
        policy = mounts.policy(tls_mode="Preferred", max_connections_per_host=1000)
        listener = mounts.listener(port, policies=[policy], certificates=[served])
        with member:
            member.wait_running(member.mount.publish(mounts.snapshot(files, listeners=[listener]), files))
            for tls in (False, True):
                asyncio.run(
                    _crowd(port, 500, authority.pem if tls else None)
                )  # what is made once is made now
                before = _held(member, port)
                print(f"{'under TLS' if tls else 'in clear'}: before {before}", flush=True)
                for _ in range(CROWDS):
                    asyncio.run(_crowd(port, CROWD, authority.pem if tls else None))
                    print(f"  after {CROWD} clients more: {_held(member, port)}", flush=True)


async def _crowd(port: int, many: int, ca: bytes | None) -> None:
    tls = trusting(ca) if ca is not None else None
    states = [one for one in STATES.values() if not one.stored and not (tls and one.in_clear)]
    never, kinds = asyncio.Event(), cycle([(one, how) for one in states for how in ("reset", "end")])
    left = islice(kinds, many)

    async def one_after_the_other() -> None:
        for state, how in left:
            await vanish(port, state, "reset" if how == "reset" else "end", never, tls)

    await asyncio.gather(*(one_after_the_other() for _ in range(_AT_A_TIME)))


def _held(member: Member, port: int) -> str:
    assert member.process is not None
    workers = psutil.Process(member.process.pid).children(recursive=True)

    def connected() -> bool:
        return any(
            one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port
            for each in workers
            for one in each.net_connections()
        )

    waiting.until(lambda: not connected(), seconds=60, what="all are gone")
    memory = sum(one.memory_full_info().uss for one in workers)
    files = sum(1 for _ in member.spool.glob("*/bodies/*"))
    return f"{memory >> 20} MiB, {sum(one.num_fds() for one in workers)} descriptors, {files} files"


if __name__ == "__main__":
    main()
