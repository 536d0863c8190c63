"""The only place that knows kopf: it watches, and hands plain objects over. Started by `main`.

Nothing else of it is used: change handlers keep their state in annotations, timers and delete handlers add
finalizers. It runs in a thread of its own, because at its end it cancels all tasks of its loop, ours too.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, cast

import kopf

from letterlock_operator import names
from letterlock_operator.access import Access
from letterlock_operator.api import PATHS, Object
from letterlock_operator.reconcile import SECRETS_LEFT_OUT
from letterlock_operator.store import WATCHED

type Received = Callable[[str, str | None, Object], None]

_STOP_TIMEOUT: Final = 10.0  # seconds


class Watching:
    """The watches on everything in `WATCHED`, in one thread."""

    def __init__(self, access: Access, namespaces: Sequence[str], received: Received) -> None:
        """`received` is called in the loop that is running now. No `namespaces`: the whole cluster."""
        self._access = access
        self._namespaces = tuple(namespaces)
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="watching", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    async def ended(self) -> None:
        """Returns once the watches have ended after `stop`. Raises what ended them otherwise."""
        await asyncio.wrap_future(self._ended)

    def stop(self) -> None:
        """Ask the watches to end."""
        self._stop.set()

    def stopping(self) -> bool:
        """Whether they were asked to end."""
        return self._stop.is_set()

    def alive(self) -> bool:
        """Whether the watches run."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._operate())
        except BaseException as error:  # noqa: BLE001 - it is raised again in `ended`
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)

    async def _operate(self) -> None:
        await kopf.operator(
            registry=self._registry(),
            settings=settings(everywhere=not self._namespaces),
            standalone=True,
            # Nobody sees it; without it the framework asks for the user's name, which a pod's user has none of.
            identity=cast("Any", "letterlock"),
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=self._stop,
        )

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        def login(**_: object) -> kopf.ConnectionInfo:
            return self._access.for_kopf()

        kopf.on.login(registry=registry)(login)
        for kind in WATCHED:
            version, plural = PATHS[kind]
            group, _, number = version.rpartition("/")
            kopf.on.event(group, number, plural, registry=registry, id=f"seen-{plural}")(self._handler(kind))
        return registry

    def _handler(self, kind: str) -> Callable[..., Any]:
        async def handle(event: kopf.RawEvent, **_: object) -> None:
            item: Any = event["object"]
            happened: Any = event["type"]
            self._loop.call_soon_threadsafe(self._received, kind, happened, item)

        return handle


def settings(*, everywhere: bool) -> kopf.OperatorSettings:
    """Settings for kopf: no Events of its own, no peering, and only those objects that can matter to us.

    `everywhere`: all namespaces are watched, also those that are still to come.
    """
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    # Namespaces that are named need no right to list all of them; kopf would ask for it during a minute.
    chosen.scanning.disabled = not everywhere
    # Foreign Secrets and pods cost memory here and traffic there.
    chosen.watching.field_selectors["v1", "secrets"] = SECRETS_LEFT_OUT
    chosen.watching.label_selectors["v1", "pods"] = names.POD_SELECTOR
    chosen.process.ultimate_exiting_timeout = None
    return chosen


def quiet() -> None:
    """Silence: kopf tells every event at INFO; its warnings are worth reading."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
    # It warns that signals are not its own here: they are ours.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
