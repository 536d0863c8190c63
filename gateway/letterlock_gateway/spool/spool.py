"""The spool as `receive` and `deliver` see it.

Coroutines over the writer thread, and a reader thread for look-ups.
"""

import asyncio
import contextlib
import fcntl
import math
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BufferedWriter
from pathlib import Path
from typing import Any, Final, Self

from letterlock_gateway import values
from letterlock_gateway.spool import headers, identity, reads, schema
from letterlock_gateway.spool.bodies import IN_DATABASE, Bodies
from letterlock_gateway.spool.changes import Change, Defer, Finish, Hasten, Hop, Insert, Prune
from letterlock_gateway.spool.contents import Content
from letterlock_gateway.spool.disk import Disk
from letterlock_gateway.spool.drafts import Draft
from letterlock_gateway.spool.failures import SpoolClosed, SpoolFailed
from letterlock_gateway.spool.following import Following
from letterlock_gateway.spool.handed import Adopt, Handed
from letterlock_gateway.spool.messages import NewMessage, Queued, Waiting
from letterlock_gateway.spool.numbers import NUMBER_STEP, Numbers
from letterlock_gateway.spool.reader import Reader
from letterlock_gateway.spool.recent import Recent
from letterlock_gateway.spool.schedule import Room, Schedule
from letterlock_gateway.spool.writer import Writer

_NOWHERE: Final = Hop()


@values.value
class Stored:
    """A message that is on disk."""

    mid: int
    rids: range
    """Numbers of its recipients, in their order."""


class Spool:
    """A worker's spool. Made by `open`; all methods are for the event loop that opened it."""

    def __init__(
        self,
        directory: Path,
        clock: Callable[[], float],
        lock: BufferedWriter,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Blocking; use `open`."""
        self._clock = clock
        self._directory = directory
        self._lock = lock
        self.number = int(directory.name) % NUMBER_STEP if directory.name.isdigit() else 0
        self._connection = schema.open_for_writing(directory)
        reading = schema.open_for_reading(directory)
        self._reader = Reader(reading)
        self._bodies = Bodies(directory / "bodies")
        self._bodies.keep_only(reads.mids_in_files(reading))
        self._disk = Disk(directory)
        self._schedule = Schedule(reads.waiting_times(reading))
        self._numbers = Numbers(self.number, *reads.highest_numbers(reading))
        self._recent = Recent()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="spool-files")
        self._writing: set[asyncio.Future[Any]] = set()
        self._adopting = asyncio.Lock()
        self.stored = asyncio.Event()
        """Set whenever there may be something due: a store, a deferral, a release, a hastening.

        Its waiter clears it.
        """

        following = Following(self._schedule, self._recent, self._remove_body, self.stored.set)
        self._done = following.done
        self._writer: Writer | None = Writer(self._connection, self._done, loop)

    @classmethod
    async def open(cls, directory: Path, clock: Callable[[], float] = time.time) -> Self:
        """Open the spool in `directory`, which is made where it is missing.

        Raises SpoolFailed: another process uses it, it is damaged, or a newer program wrote it.
        """
        return await asyncio.to_thread(cls._open, directory, clock, asyncio.get_running_loop())

    @classmethod
    def _open(cls, directory: Path, clock: Callable[[], float], loop: asyncio.AbstractEventLoop) -> Self:
        with contextlib.ExitStack() as undo:
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                schema.sync_directory(directory.parent)
                lock = undo.enter_context((directory / "lock").open("wb"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                spool = cls(directory, clock, lock, loop)
            except BlockingIOError:
                raise SpoolFailed(f"{directory}: another process uses this spool") from None
            except (sqlite3.Error, OSError, ValueError) as problem:
                raise SpoolFailed(f"{directory}: {problem}") from problem
            undo.pop_all()
            return spool

    async def store(self, message: NewMessage, mid: int | None = None) -> int:
        """Store `message` and return its number once it is synced to disk.

        Raises SpoolFailed: then nothing is stored (SpoolFull: there is no room). A caller that is cancelled
        while it waits leaves the message stored.
        """
        return (await self.take(message, mid)).mid

    async def take(self, message: NewMessage, mid: int | None = None, draft: Draft | None = None) -> Stored:
        """As `store`, with the numbers of the recipients. `mid` is one from `new_mid`.

        With a draft its number and its body count, and the message's own body must be empty.
        """
        if not message.recipients:
            raise ValueError("a message without recipients")
        if draft is not None:
            mid = draft.mid
            small = draft.small
            if small is not None:
                draft.discard()
                message, draft = message.with_body(small), None
        self._disk.take(len(message.body))
        insert = self._insert(message, self.new_mid() if mid is None else mid, draft)
        await self._commit(insert, insert)
        return Stored(insert.mid, insert.rids)

    def draft(self, held: Callable[[int], None] = lambda _: None) -> Draft:
        """A new message's body that comes in pieces: write it, then `take` or discard it.

        `held` is told by how many octets what it holds in memory has grown or shrunk.
        """
        return Draft(self.new_mid(), self._bodies, self._threads, held)

    def new_mid(self) -> int:
        """A message number that is used once, for those who need it before they store."""
        return self._numbers.mid()

    async def due(self, now: float, limit: int, room: Room | None = None) -> list[Queued]:
        """Up to `limit` recipients whose time has come, of no domain more than there is `room` for.

        Each is leased until it is delivered, bounced, deferred or released. Raises SpoolFailed: none is.
        """
        rids = self._schedule.lease(now, limit, room)
        found = {rid: queued for rid in rids if (queued := self._recent.take(rid))}
        missing = [rid for rid in rids if rid not in found]
        if missing:
            try:
                found |= await self._reader.ask(reads.recipients, missing)
            except BaseException:
                for rid in rids:
                    self._schedule.release(rid)
                raise
        return [found[rid] for rid in rids if rid in found]

    async def next_due(self) -> float | None:
        """When the first recipient that is not leased is due, Unix seconds; None: there is none."""
        return self._schedule.next_due()

    async def body(self, mid: int) -> bytes:
        """All of the body of a message that still has recipients. Raises SpoolFailed."""
        return b"".join([piece async for piece in (await self.content(mid)).pieces()])

    async def content(self, mid: int) -> Content:
        """The body of a message that still has recipients, to be sent piece by piece. Raises SpoolFailed."""
        kept = self._recent.content(mid)
        if kept is not None:
            return kept
        try:
            content = await self._reader.ask(reads.body, mid)
            if content is not None:
                return Content.of(content)
            loop, path = asyncio.get_running_loop(), self._bodies.path(mid)
            return await loop.run_in_executor(self._threads, Content.survey, path, self._threads)
        except (SpoolFailed, OSError) as problem:
            cause = problem.__cause__ or problem
            raise SpoolFailed(f"the body of message {mid} cannot be read: {cause}") from cause

    async def delivered(
        self, rids: Sequence[int], *, hop: Hop, reply: str, notice: NewMessage | None = None
    ) -> None:
        """A next hop took them. `notice` is stored in the same transaction. Raises SpoolFailed."""
        insert = self._notice(notice)
        await self._commit(Finish(tuple(rids), "delivered", self._clock(), hop, reply, insert), insert)

    async def bounced(
        self, rids: Sequence[int], *, reason: str, notice: NewMessage | None, hop: Hop = _NOWHERE
    ) -> None:
        """They will not be delivered. `notice` is stored in the same transaction. Raises SpoolFailed.

        Then nothing changed.
        """
        insert = self._notice(notice)
        await self._commit(Finish(tuple(rids), "bounced", self._clock(), hop, reason, insert), insert)

    async def deferred(
        self,
        rids: Sequence[int],
        *,
        next_attempt: float,
        reason: str,
        hop: Hop = _NOWHERE,
        notice: NewMessage | None = None,
    ) -> None:
        """They are tried again at `next_attempt`, Unix seconds (at once, where `hasten` came meanwhile).

        `notice` tells the sender of the delay, and is stored in the same transaction. Raises SpoolFailed: they
        are tried again all the same, but it is not on disk.
        """
        insert = self._notice(notice)
        change = Defer(tuple(rids), next_attempt, reason, self._clock(), hop, insert)
        await self._commit(change, insert)

    async def delete(self, rids: Sequence[int], *, reason: str) -> None:
        """They are not delivered, and nobody is told: an administrator says so. Raises SpoolFailed."""
        await self._commit(Finish(tuple(rids), "deleted", self._clock(), _NOWHERE, reason), None)

    async def prune(self, before: float) -> None:
        """Forget what was finished before `before` (Unix seconds), a few hundred messages at a time.

        Raises SpoolFailed.
        """
        change = Prune(0, before)
        while True:
            await self._commit(change, None)
            if change.reached is None:
                return
            change = Prune(change.reached, before)

    async def withhold(self, limit: int) -> list[Queued]:
        """Up to `limit` recipients that nobody works on, due or not; each is leased until it is moved or released.

        Raises SpoolFailed: none is.
        """
        return await self.due(math.inf, limit)

    async def moved(self, rids: Sequence[int], *, to: str) -> None:
        """Another member has them on its disk. Raises SpoolFailed."""
        await self._commit(Finish(tuple(rids), "moved", self._clock(), _NOWHERE, to), None)

    async def adopt(self, handed: Handed) -> int:
        """Store what another member hands over, as far as it is not here already. Gives its number here.

        Raises SpoolFailed: then nothing more is stored (SpoolFull: there is no room).
        """
        async with self._adopting:
            rids = [one.rid for one in handed.recipients]
            known = await self._reader.ask(reads.adopted, handed.source, rids)
            handed = handed.without(set(known))
            if not handed.recipients:
                return max(known.values())
            self._disk.take(len(handed.message.body))
            adopt = Adopt.of(self._insert(handed.message, self.new_mid()), handed)
            # A caller that goes away in between would let the same come in twice at once.
            await asyncio.shield(asyncio.ensure_future(self._commit(adopt, adopt)))
            return adopt.mid

    async def trace(self, mid: int) -> tuple[str | None, str]:
        """Cipher that `mid` was received with, and who brought it. Raises SpoolFailed."""
        return await self._reader.ask(reads.trace, mid)

    def identity(self) -> str:
        """A name that no other spool has, whatever becomes of this one's directory. Raises SpoolFailed."""
        return identity.of(self._directory)

    def release(self, rids: Sequence[int]) -> None:
        """Give leases back without an attempt having been made."""
        for rid in rids:
            self._schedule.release(rid)
        self.stored.set()

    async def hasten(self, domains: Callable[[str], bool] | None = None) -> None:
        """What waits for a later attempt, and whose domain `domains` says yes to (None: all), is due now.

        Raises SpoolFailed.
        """
        waiting = await self._reader.ask(reads.waiting_domains)
        await self.hasten_these([rid for rid, domain in waiting if domains is None or domains(domain)])

    async def waiting(self, mids: Sequence[int]) -> list[Waiting]:
        """What of these messages (none named: of all) is neither delivered nor bounced. Raises SpoolFailed."""
        return await self._reader.ask(reads.waiting, mids)

    async def hasten_these(self, rids: Sequence[int]) -> None:
        """These recipients are due now, as far as they wait. Raises SpoolFailed."""
        now = self._clock()
        rids = [rid for rid in rids if rid in self._schedule]
        for rid in rids:
            self._schedule.hasten(rid, now)
        self.stored.set()
        await self._commit(Hasten(rids, now), None)

    def waits(self, rid: int) -> bool:
        """Whether `rid` is neither finished nor leased: nobody works on it."""
        return rid in self._schedule and not self._schedule.is_leased(rid)

    def waits_for_room(self, domain: str) -> bool:
        """Whether recipients of `domain` are due that `due` had no room for."""
        return self._schedule.waits_for_room(domain)

    def holds(self, domain: str) -> bool:
        """Whether any recipient of `domain` is neither delivered nor bounced."""
        return self._schedule.holds(domain)

    def no_later_than(self, latest: float) -> int:
        """What would wait beyond `latest` (Unix seconds) is due then. Gives how many that were."""
        moved = self._schedule.no_later_than(latest)
        if moved:
            self.stored.set()
        return moved

    def queue_length(self) -> int:
        """Recipients that are neither delivered nor bounced."""
        return len(self._schedule)

    async def close(self) -> None:
        """Commit what is under way and close."""
        if self._writer is None:
            return
        if self._writing:
            await asyncio.wait(self._writing)
        writer, self._writer = self._writer, None
        await writer.close()
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._reader.close()
        self._threads.shutdown()
        self._connection.close()
        self._lock.close()

    def _remove_body(self, mid: int) -> None:
        self._threads.submit(self._bodies.remove, mid)

    def _notice(self, notice: NewMessage | None) -> Insert | None:
        return self._insert(notice, self.new_mid()) if notice is not None else None

    def _insert(self, message: NewMessage, mid: int, draft: Draft | None = None) -> Insert:
        size = len(message.body) if draft is None else draft.size
        return Insert(
            mid,
            self._numbers.rids(message.recipients),
            message,
            self._clock(),
            size,
            in_file=size > IN_DATABASE,
            draft=draft,
            message_id=headers.message_id(message.body) if draft is None else draft.message_id,
        )

    async def _commit(self, change: Change, insert: Insert | None) -> None:
        if self._writer is None:
            if insert is not None and insert.draft is not None:
                insert.draft.discard()
            raise SpoolClosed("the spool is closed")
        if insert is None or not insert.in_file:
            await self._writer.submit(change)
            return
        # File and commit belong together: a caller that is cancelled must not tear them apart.
        whole = asyncio.ensure_future(self._commit_with_file(change, insert))
        self._writing.add(whole)
        whole.add_done_callback(self._file_done)
        await asyncio.shield(whole)

    async def _commit_with_file(self, change: Change, insert: Insert) -> None:
        if insert.draft is not None:
            await insert.draft.finish()
        else:
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(self._threads, self._bodies.write, insert.mid, insert.message.body)
            except OSError as problem:
                failure = SpoolFailed(f"{type(problem).__name__}: {problem}")
                self._done(change, failure)
                raise failure from problem
        if self._writer is None:
            self._bodies.remove(insert.mid)
            raise SpoolClosed("the spool is closed")
        await self._writer.submit(change)

    def _file_done(self, whole: asyncio.Future[Any]) -> None:
        self._writing.discard(whole)
        if not whole.cancelled():
            whole.exception()  # seen, also where the caller is gone
