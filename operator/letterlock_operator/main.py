"""The operator as a program: `letterlock operator`, or `python -m letterlock_operator`."""

import asyncio
import json
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, override

from aiohttp import web

from letterlock_api.base import API_VERSION
from letterlock_api.kinds import KINDS
from letterlock_api.metrics import CONTENT_TYPE, Metrics
from letterlock_operator import access, api, handlers
from letterlock_operator.decide import decide_again
from letterlock_operator.decide.objects import Pods, objects_again
from letterlock_operator.lease import Lease
from letterlock_operator.reconcile import Reconciler

HEALTH_PORT: Final = 8080
_LOOK_AGAIN: Final = 1.0  # seconds between looks for the resource definitions
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What the operator is started with."""

    namespaces: tuple[str, ...] = ()
    """Serve only these; none: the whole cluster."""
    kubeconfig: str | None = None
    """None: the pod's own credentials, else the default kubeconfig."""
    context: str | None = None
    """Context of the kubeconfig."""
    lease: str = ""
    """`namespace/name` of the Lease that decides which of several operators acts; empty: this one does."""
    installation: str = ""
    """Who this operator is among others: `namespace/release` of a chart, the same for all its replicas and
    after every restart. Empty: this host."""
    image: str = ""
    """Image of the members that name none; empty: what the environment variable LETTERLOCK_IMAGE says."""
    image_pull_secrets: tuple[str, ...] = ()
    """Names of Secrets, in each gateway's namespace, that the image is pulled with."""
    health_address: str = ""
    """Address of the health port; empty: all."""
    health_port: int | None = None
    """Where `/healthz` and `/metrics` are answered; None: nowhere."""
    log_format: Literal["json", "text"] = "json"


class _JSONLines(logging.Formatter):
    """One object a line, as the gateway's log has them."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def run(options: Options) -> int:
    """Serve until SIGTERM or SIGINT. Gives the exit status; what went wrong is on stderr in one line."""
    _log_to_stdout(options.log_format)
    try:
        where = access.find(options.kubeconfig, options.context)
    except access.NoCluster as error:
        print(f"letterlock operator: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return asyncio.run(_serve(options, where))


async def _serve(options: Options, where: access.Access) -> int:
    loop = asyncio.get_running_loop()
    image = options.image or os.environ.get("LETTERLOCK_IMAGE", "")
    if not image:
        _log.warning("no image of members is known: only gateways with spec.image get any; give --image")
    async with api.API(where) as client:
        leading = _lease(options, client)
        may_act = leading.held if leading is not None else None
        installation = options.installation or socket.gethostname()
        home, slash, _ = installation.partition("/")
        pods = Pods(image, options.image_pull_secrets, home if slash else "")
        reconciler = Reconciler(
            client,
            decide_again,
            lambda world, plan, before: objects_again(world, plan, pods, before),
            installation,
            may_act,
        )
        watching = handlers.Watching(where, options.namespaces, reconciler.received)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, watching.stop)
        client.counted = lambda verb, code: reconciler.metrics.count(
            "letterlock_operator_api_requests_total", verb=verb, code=str(code)
        )
        health = await _health(options, watching.alive, reconciler.metrics)
        leader = asyncio.create_task(leading.keep(), name="lease") if leading is not None else None
        await _definitions(client, watching)
        watching.start()
        _log.info("serving %s at %s", ", ".join(options.namespaces) or "all namespaces", where.server)
        try:
            await watching.ended()
        except Exception:  # noqa: BLE001 - whatever ended them ends us
            _log.exception("the watches ended")
            return 1
        finally:
            await reconciler.close()
            if leader is not None:
                leader.cancel()
                await asyncio.gather(leader, return_exceptions=True)
            if health is not None:
                await health.cleanup()
    return 0


async def _definitions(client: api.API, watching: handlers.Watching) -> None:
    """Wait until the API server serves our kinds: what comes after the watches began may never be seen."""
    said = ""
    while not watching.stopping() and (problem := await _missing(client)):
        if problem != said:
            _log.warning("waiting for the API server: %s", problem)
            said = problem
        await asyncio.sleep(_LOOK_AGAIN)


async def _missing(client: api.API) -> str:
    """What is missing before the watches can begin; empty: nothing."""
    try:
        served = await client.served(API_VERSION)
    except api.NotFound:
        served = frozenset[str]()
    except api.APIError as error:
        return str(error)
    missing = sorted({model.PLURAL for model in KINDS.values()} - served)
    return f"no {', '.join(missing)} of {API_VERSION}: run letterlock crds apply" if missing else ""


def _lease(options: Options, client: api.API) -> Lease | None:
    """The Lease to wait for, where there is one."""
    if not options.lease:
        return None
    namespace, _, name = options.lease.partition("/")
    return Lease(client, namespace, name, f"{socket.gethostname()}-{secrets.token_hex(4)}")


async def _health(options: Options, alive: Callable[[], bool], counted: Metrics) -> web.AppRunner | None:
    """Answer `/healthz`: that the event loop turns and the watches run; and `/metrics`."""
    if options.health_port is None:
        return None

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if alive() else web.Response(status=503, text="not watching\n")

    async def measure(_: web.Request) -> web.Response:
        return web.Response(body=counted.text(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.router.add_get("/healthz", answer)
    app.router.add_get("/metrics", measure)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, options.health_address or None, options.health_port).start()
    return runner


def _log_to_stdout(form: Literal["json", "text"]) -> None:
    handler = logging.StreamHandler(sys.stdout)
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(_JSONLines() if form == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    handlers.quiet()
