"""A worker of a member that is to go: takes no more mail in, and hands all that it holds to members that stay.

Called by the worker: `follow` with every new set. While nobody can take the mail, it is delivered from here as ever.
"""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from typing import Final

from letterlock_api.snapshot import Drain
from letterlock_gateway import mount, peers
from letterlock_gateway.deliver import Delivery
from letterlock_gateway.handover import letters, sending
from letterlock_gateway.options import Options
from letterlock_gateway.receive import Reception
from letterlock_gateway.report.log import Log
from letterlock_gateway.spool import (
    Handed,
    HandedRecipient,
    NewMessage,
    NewRecipient,
    Queued,
    Spool,
    SpoolFailed,
)
from letterlock_gateway.tls import contexts

# Recipients that are looked at together, and messages that are on their way at a time: enough for their syncs on the
# other side to become one.
_BATCH: Final = 200
_AT_A_TIME: Final = 8
_AGAIN: Final = 0.5  # seconds until the next look
# Seconds of delivering from here, after the others would not take it.
_MEANWHILE: Final = 10.0


@dataclass(frozen=True)
class _Group:
    """A message's recipients that are leased for the way to another member."""

    queued: tuple[Queued, ...]

    @property
    def mid(self) -> int:
        return self.queued[0].mid

    @property
    def rids(self) -> list[int]:
        return [one.rid for one in self.queued]


class Leaving:
    """See the module."""

    def __init__(
        self, spool: Spool, delivery: Delivery, reception: Reception, log: Log, options: Options
    ) -> None:
        self.drained = 0
        """The order under which nothing is left; 0: none."""
        self._spool = spool
        self._delivery = delivery
        self._reception = reception
        self._log = log
        self._options = options
        self._linger = options.linger
        self._drain: Drain | None = None
        self._task: asyncio.Task[None] | None = None
        self._since = 0.0
        # Those that a peer may have, or not: it alone can tell.
        self._doubtful: list[tuple[_Group, str]] = []
        self._problem = ""
        self._news = asyncio.Event()

    @property
    def active(self) -> bool:
        """Whether this member is to go: nothing new may come into its spool."""
        return self._drain is not None

    def follow(self, drain: Drain | None) -> None:
        """Go as `drain` says, or stay (None)."""
        if drain is not None and self._drain is None:
            self._log.info("This member is to go: it takes no more mail in, and hands on what it has")
            self._since = asyncio.get_running_loop().time()
        if drain is None and self._drain is not None:
            self._log.info("This member stays after all")
        changed, self._drain = drain != self._drain, drain
        if not changed:
            return
        self._news.set()
        self.drained = 0
        if drain is None:
            self._reception.stay()  # what is on its way just now arrives; then `_run` ends
        elif self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="leaving")

    async def close(self) -> None:
        """The worker ends. What is on its way is sent again by the next one, and stored once over there."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._drain is not None:
            try:
                await self._look(self._drain)
            except Exception as failure:  # noqa: BLE001 - whatever it is, the mail is still here, and must not be stuck
                self._tell(f"{type(failure).__name__}: {failure}")
                self._delivery.go_on()
                await asyncio.sleep(_MEANWHILE)
        for group, _ in self._doubtful:
            self._spool.release(group.rids)  # better twice than never
        self._doubtful.clear()
        self._delivery.go_on()

    async def _look(self, drain: Drain) -> None:
        wait = _AGAIN
        if asyncio.get_running_loop().time() - self._since >= self._linger:
            self._reception.leave()
        if self._spool.queue_length():
            self.drained = 0
            if drain.peers and await self._hand_over(drain):
                self._problem = ""
            else:
                self._delivery.go_on()
                wait = _MEANWHILE if drain.peers else _AGAIN
        elif self._reception.left_by_all and drain is self._drain:
            if not self.drained:
                self._log.info("This member holds no mail any more")
            self.drained = drain.order
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._news.wait()
        self._news.clear()

    async def _hand_over(self, drain: Drain) -> bool:
        """Hand over what nobody works on. False: some of it could not be."""
        self._delivery.hold()
        try:
            context = self._context()
            if context is None:
                return False
            if not await self._settle_doubts(drain, context):
                return False
            while self._drain is drain and (queued := await self._spool.withhold(_BATCH)):
                if not await self._hand_over_these(queued, drain, context):
                    return False
        except SpoolFailed as failure:
            self._tell(f"the spool: {failure}")
            return False
        return True

    async def _hand_over_these(self, queued: list[Queued], drain: Drain, context: ssl.SSLContext) -> bool:
        by_mid: dict[int, list[Queued]] = {}
        for one in queued:
            by_mid.setdefault(one.mid, []).append(one)
        slots = asyncio.Semaphore(_AT_A_TIME)

        async def offer(group: _Group) -> bool:
            async with slots:
                return await self._offer(group, drain, context)

        groups = [_Group(tuple(some)) for some in by_mid.values()]
        tasks = [asyncio.ensure_future(offer(group)) for group in groups]
        try:
            return all(await asyncio.gather(*tasks))
        except BaseException:
            # Told to stay, or the spool fails: what was not sent off goes back.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _offer(self, group: _Group, drain: Drain, context: ssl.SSLContext) -> bool:
        """Have one of the peers take it. False: none would; it is released then, or in doubt."""
        try:
            letter = letters.encode(await self._letter(group))
        except BaseException:
            self._spool.release(group.rids)
            raise
        # Another one for each message, and for one message the same first: it alone knows what it has already.
        first = group.mid // 1000 % len(drain.peers)
        for peer in (*drain.peers[first:], *drain.peers[:first]):
            try:
                there = await sending.send(peer, self._options.state_port, context, letter)
            except peers.PeerRefused as refusal:
                self._tell(str(refusal))
                continue
            except peers.PeerSilent as silence:
                self._tell(str(silence))
                self._doubtful.append((group, peer))
                return False
            except asyncio.CancelledError:
                # It may be over there. It stays leased: delivered from here too it would come twice.
                self._doubtful.append((group, peer))
                raise
            await self._is_there(group, peer, there)
            return True
        self._spool.release(group.rids)
        return False

    async def _settle_doubts(self, drain: Drain, context: ssl.SSLContext) -> bool:
        """Ask again those who gave no answer. False: some still give none."""
        doubtful, self._doubtful = self._doubtful, []
        for group, peer in doubtful:
            if peer not in drain.peers:
                # It has gone: with its volume it comes back under another address, and what it took is delivered.
                self._spool.release(group.rids)
                continue
            await self._offer(group, Drain(member=drain.member, order=drain.order, peers=[peer]), context)
        return not self._doubtful

    async def _is_there(self, group: _Group, peer: str, mid: int) -> None:
        """Write down that it is. It is leased until that is done: delivered from here too it would come twice."""
        while True:
            try:
                await self._spool.moved(group.rids, to=f"handed to {peer} as MID {mid}")
            except SpoolFailed as failure:
                self._tell(f"what was handed on could not be written down: {failure}")
                await asyncio.sleep(_AGAIN)
            else:
                self._log.info(f"MID {group.mid} handed to {peer} as MID {mid}", mid=group.mid)
                return

    async def _letter(self, group: _Group) -> Handed:
        first = group.queued[0]
        cipher, client = await self._spool.trace(first.mid)
        message = NewMessage(
            sender=first.sender,
            recipients=tuple(NewRecipient(one.address, one.notify, one.orcpt) for one in group.queued),
            body=await self._spool.body(first.mid),
            icid=0,
            smtputf8=first.smtputf8,
            body_8bit=first.body_8bit,
            ret=first.ret,
            envid=first.envid,
            received_protocol=first.received_protocol,
            received_cipher=cipher,
            client=f"{self._options.member} MID {first.mid}" + (f", {client}" if client else ""),
        )
        so_far = tuple(
            HandedRecipient(one.rid, one.attempts, one.next_attempt, one.told_delay) for one in group.queued
        )
        return Handed(self._spool.identity(), first.mid, message, first.queued_at, so_far)

    def _context(self) -> ssl.SSLContext | None:
        identity = mount.read_identity(self._options.mount)
        try:
            if identity is not None:
                return peers.context_of(identity)
            self._tell("there is no certificate to prove ourselves with")
        except (contexts.BadCertificate, ssl.SSLError) as problem:
            self._tell(f"our certificate cannot be used: {problem}")
        return None

    def _tell(self, problem: str) -> None:
        """Say once why mail is not handed on."""
        if problem != self._problem:
            self._log.warning(f"Mail cannot be handed on, and is delivered from here: {problem}")
        self._problem = problem
