"""What a member runs and says: takes sets from the mount, offers them to the workers, gathers reports.

Called by `supervisor`, once the workers' processes have been started.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from letterlock_gateway import channel, mount, watching
from letterlock_gateway.handover import letters, taking
from letterlock_gateway.manage import control, gathering, gauges, stored
from letterlock_gateway.manage.alerting import Alerting
from letterlock_gateway.manage.endpoints import Endpoints, Facts
from letterlock_gateway.manage.merging import Refusal, Report, merge
from letterlock_gateway.manage.session_days import SessionDays
from letterlock_gateway.manage.stored import NotStored
from letterlock_gateway.options import Options
from letterlock_gateway.report.log import Log
from letterlock_gateway.report.metrics import Metrics
from letterlock_gateway.report.tls_failures import TLS_REASONS, TLSFailure
from letterlock_gateway.running import RunningSet
from letterlock_gateway.spool import NewMessage
from letterlock_gateway.spool.numbers import NUMBER_STEP
from letterlock_gateway.tls import contexts
from letterlock_gateway.web import handed
from letterlock_gateway.web.process import Pages
from letterlock_gateway.workers import Heard, WorkerProcess

# Seconds between two writes of the sessions: of what lies between, a member that is killed knows nothing.
_KEEP_EVERY: Final = 60.0
_IDENTITY: Final = "the certificate for the state endpoint"


@dataclass(frozen=True)
class _Problems:
    """For people: what is wrong, by part."""

    mount: str = ""
    identity: str = f"{_IDENTITY} is not there yet"

    def texts(self) -> list[str]:
        return [text for text in (self.mount, self.identity) if text]


class Member:
    """One member. `run` works until it is cancelled; `stopping` makes it not ready."""

    def __init__(
        self, options: Options, log: Log, workers: Mapping[int, WorkerProcess], heard: Heard, began: float
    ) -> None:
        self.stopping = False
        self._options = options
        self._log = log
        self._workers = workers
        self._heard = heard
        self._began = began
        self._version = _version()
        # A spool that nobody has looked into may hold mail: 1 says "not known to be empty" to whoever would
        # remove us.
        self._reports = {number: Report(queue=int(worker.had_spool)) for number, worker in workers.items()}
        self._refusal: Refusal | None = None
        self._problems = _Problems()
        self._seen: object = None
        self._offered: RunningSet | None = None
        # Digests of the sets that some worker may still run, by hash.
        self._digests: dict[str, Mapping[str, str]] = {}
        self._announced = ""
        self._metrics = Metrics()
        self._metrics.count("letterlock_worker_restarts_total", 0)
        self._sessions = SessionDays(options.spool)
        self._alerting = Alerting(options.spool, log, self._store, self._failing_in_tls, self._metrics)
        self._pages = Pages(options, log)
        self._others = gathering.Gathering(options.state_port, lambda: mount.read_identity(options.mount))
        self._mounted: mount.MountedSet | None = None
        self._shared = secrets.token_bytes()

    async def run(self) -> None:
        """Take sets and gather reports. Raises OSError if the endpoints cannot be bound."""
        options = self._options
        facts = Facts(
            state=self._state,
            ready=self.ready,
            metrics=self._measured,
            adopt=self._adopt,
            look=self._pages.look,
        )
        endpoints = await Endpoints.open(
            options.state_address, options.state_port, options.health_port, facts
        )
        try:
            async with control.serve(options.spool, self._carry), asyncio.TaskGroup() as tasks:
                tasks.create_task(self._gather(), name="reports")
                tasks.create_task(self._watch(endpoints), name="mount")
                tasks.create_task(self._alerting.run(), name="alerts")
                tasks.create_task(self._pages.run(), name="pages")
                tasks.create_task(self._keep_sessions(), name="sessions")
        finally:
            endpoints.close()
            with contextlib.suppress(OSError):
                self._sessions.save()

    def ready(self) -> bool:
        """Whether every worker runs a set, and will go on taking mail."""
        offered = self._offered
        stays = offered is None or (offered.admitted and offered.drain is None)
        return not self.stopping and stays and all(report.snapshot for report in self._reports.values())

    def _measured(self) -> bytes:
        """The metrics, with what is measured only now."""
        metrics = self._metrics
        metrics.gauge("letterlock_member_info", 1, version=self._version)
        metrics.gauge("letterlock_member_ready", int(self.ready()))
        metrics.gauge("letterlock_snapshot_refused", int(self._refusal is not None))
        metrics.gauge("letterlock_queue_length", sum(one.queue for one in self._reports.values()))
        gauges.measure_spool(metrics, self._options.spool, time.time())
        return metrics.text()

    async def _keep_sessions(self) -> None:
        """Write down what TLS reports will be made of."""
        while True:
            await asyncio.sleep(_KEEP_EVERY)
            try:
                self._sessions.save()
            except OSError as problem:
                self._log.warning(f"TLS sessions of today cannot be written down: {problem}")

    def _state(self) -> bytes:
        state = merge(
            self._options.member,
            self._reports,
            version=self._version,
            refusal=self._refusal,
            problems=[*self._problems.texts(), *([problem] if (problem := self._pages.problem) else [])],
        )
        if self._offered is not None and not self._pages.current:
            # Workers run the set, and what the pages make of it is not served (yet).
            waits = handed.resources(self._offered.snapshot)
            kept = {key: digest for key, digest in state.digests.items() if key not in waits}
            state = state.model_copy(update={"digests": kept})
        return state.model_dump_json(by_alias=True).encode()

    async def _carry(self, order: channel.Message) -> channel.Message:
        """Say what runs here, or have an order about the queue carried out.

        By the workers whose messages it names: their numbers tell.
        """
        if order["do"] == "running":
            running = self._offered.hash if self._offered is not None else ""
            mounted = str(self._options.mount.resolve())
            return {"member": self._options.member, "mount": mounted, "snapshot": running}
        if order["do"] == control.STATE:
            return {"state": json.loads(self._state())}
        if order["do"] == gathering.DO:
            return await self._others.carry_out(order)
        if order["do"] in (stored.DO, taking.DO):
            return {"done": [], "busy": [], "problems": ["mail comes in by listeners only"]}
        numbers = {mid % NUMBER_STEP for mid in order["mids"]}
        chosen = [one for number, one in self._workers.items() if not numbers or number in numbers]
        answers = await asyncio.gather(*(one.ask(order) for one in chosen))
        merged: dict[str, list[object]] = {"done": [], "busy": [], "problems": []}
        for worker, answer in zip(chosen, answers, strict=True):
            for key in merged if answer else ():
                merged[key] += answer[key] if answer else []
            if answer is None:
                merged["problems"].append(f"worker {worker.number} does not run just now: try again")
        return merged

    async def _adopt(self, content: bytes) -> int:
        """Have a worker store a message of a member that is to go. Raises NotStored."""
        workers = [one for _, one in sorted(self._workers.items())]
        try:
            chosen = workers[taking.chosen(content, len(workers))]
        except letters.NotALetter as problem:
            raise NotStored(str(problem)) from problem
        answer = await chosen.ask(taking.order(content))
        if answer is None or "mid" not in answer:
            raise NotStored(stored.problem(answer or {}))
        return answer["mid"]

    async def _store(self, message: NewMessage) -> int:
        """Have the first worker that can store a message that was made here."""
        problem = "no worker runs"
        for worker in self._workers.values():
            answer = await worker.ask(stored.order(message))
            if answer is not None and "mid" in answer:
                return answer["mid"]
            if answer is not None:
                problem = stored.problem(answer)
        raise NotStored(problem)

    def _failing_in_tls(self) -> set[str]:
        """Domains that some worker cannot deliver to for want of TLS."""
        states = [state for report in self._reports.values() for state in report.destinations.values()]
        return {one.domain for state in states for one in state.failing if one.reason in TLS_REASONS}

    async def _gather(self) -> None:
        while True:
            number, message = await self._heard.get()
            before = self._reports[number]
            if message is None:
                self._reports[number] = Report(queue=before.queue)
                self._metrics.count("letterlock_worker_restarts_total")
                continue
            self._metrics.take(message["counted"])
            self._sessions.add(message["sessions"], time.time())
            digests = self._digests.get(message["snapshot"], {})
            self._reports[number] = before.updated(message, digests)
            self._alerting.failed([TLSFailure.from_json(one) for one in message["tls_failures"]])
            self._announce()

    def _announce(self) -> None:
        """Say once that a snapshot runs, and forget the digests of those that nobody runs any more."""
        running = {report.snapshot for report in self._reports.values()}
        if self._offered is None or running != {self._offered.hash} or self._announced == self._offered.hash:
            return
        self._announced = self._offered.hash
        self._digests = {self._announced: self._offered.snapshot.digests}
        seconds = time.monotonic() - self._began
        self._log.info(
            f"Snapshot {self._announced} runs on all workers, {seconds:.2f} s after the start",
            snapshot=self._announced,
        )

    async def _watch(self, endpoints: Endpoints) -> None:
        async for _ in watching.changes(self._options.mount):
            seen = mount.fingerprint(self._options.mount)
            if seen is not None and seen == self._seen:
                continue
            self._seen = seen
            await self._use_identity(endpoints)
            self._take()

    async def _use_identity(self, endpoints: Endpoints) -> None:
        identity = mount.read_identity(self._options.mount)
        problem = ""
        self._share(identity)
        if identity is None:
            problem = f"{_IDENTITY} is not there yet"
        else:
            try:
                await endpoints.use(identity)
            except contexts.BadCertificate as error:
                problem = f"{_IDENTITY} cannot be used: {error}"
        if problem and problem != self._problems.identity:
            self._log.warning(f"State endpoint: {problem}")
        self._problems = replace(self._problems, identity=problem)

    def _share(self, identity: mount.Identity | None) -> None:
        """Sessions of the pages rest on what all members of the gateway have, and nobody else."""
        if identity is None:
            return
        shared = hmac.new(identity.certificate, b"letterlock sessions", hashlib.sha256).digest()
        if shared != self._shared:
            self._shared = shared
            if self._mounted is not None:
                self._show(self._mounted)

    def _show(self, mounted: mount.MountedSet) -> None:
        """Have the pages show this set. Whatever is wrong with that does not keep mail from running by it."""
        self._mounted = mounted
        try:
            if wanted := handed.served(mounted, self._options.member):
                self._pages.use(handed.message(mounted, self._options.member, self._shared), wanted)
            else:
                self._pages.use(None, "")
        except Exception as error:  # noqa: BLE001 - a fault of ours in here must not stop mail
            self._pages.leave_out(str(error) or repr(error))

    def _take(self) -> None:
        """Offer the set in the mount to the workers; if it is none, say why and keep the last good one."""
        try:
            mounted = mount.read(self._options.mount)
            if self._offered is None or mounted.hash != self._offered.hash:
                self._offer(mounted, RunningSet.build(mounted, self._options.member))
        except mount.MountEmpty as empty:
            self._refusal = None
            self._problems = replace(self._problems, mount=empty.reason)
        except mount.MountRefused as refused:
            if self._refusal != (refusal := Refusal(refused.hash, refused.reason)):
                self._log.error(f"Snapshot {refused.hash or 'in the mount'} refused: {refused.reason}")
            self._refusal = refusal
            self._problems = replace(self._problems, mount="")
        else:
            self._refusal = None
            self._problems = replace(self._problems, mount="")

    def _offer(self, mounted: mount.MountedSet, running: RunningSet) -> None:
        self._offered = running
        self._announced = ""
        self._digests[running.hash] = running.snapshot.digests
        self._log.info(f"Snapshot {running.hash} taken", snapshot=running.hash)
        if not running.admitted:
            self._log.info("This member takes no mail until the operator has seen it run")
        for use in running.demo_uses():
            self._log.warning(
                f"{use} runs with the demo certificate, which nobody can verify: choose another"
            )
        ends = gauges.certificate_ends(mounted, self._options.member)
        self._metrics.gauges(
            "letterlock_certificate_expiry_timestamp_seconds", [((name,), end) for name, end in ends.items()]
        )
        message = channel.set_message(mounted.content, mounted.files)
        for worker in self._workers.values():
            worker.offer(message)
        self._alerting.use(running, mounted)
        self._show(mounted)


def _version() -> str:
    try:
        return version("letterlock")
    except PackageNotFoundError:  # run from a source tree
        return ""
