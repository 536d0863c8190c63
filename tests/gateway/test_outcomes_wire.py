"""Every cell of the outcome table against real servers over sockets. The oracle is what came over the wire.

One test per fault; all seven modes at once, each with a domain and a server of its own. `Default` is resolved by
the operator's own decision, below an entry for `*` that requires verification.
"""

import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import pytest

from letterlock_api.destinationcontrol import TLSMode
from letterlock_api.snapshot import Destination, ResolvedTLSMode
from letterlock_gateway.deliver import outcomes_table
from letterlock_gateway.deliver.outcomes_table import Decision, Event
from letterlock_gateway.deliver.terms import Timeouts
from letterlock_operator.decide import decide
from tests.decide import builders
from tests.harness import chains
from tests.harness.certificates import Authority
from tests.harness.chains import Signer
from tests.harness.deliveries import LETTER, TIMEOUTS, Delivering, delivering, route, until
from tests.harness.faulty_smtp import Fault, FaultySMTP
from tests.harness.mounts import destination
from tests.harness.nameserver import Nameserver

MODES: Final[tuple[TLSMode, ...]] = get_args(TLSMode)
OFFERED = Event.STARTTLS_OFFERED
VERIFIED = (OFFERED, Event.ENCRYPTED, Event.VERIFIED)
# Whose servers say nothing: that is waited for.
SILENT: Final = {"no greeting", "EHLO unanswered", "STARTTLS unanswered", "silent after 220"}
# What happens at a host with this fault to a delivery that goes as far as it can.
FAULTS: Final[dict[Fault, tuple[Event, ...]]] = {
    "": VERIFIED,
    "greeting 421": (Event.GREETING_DEFERRED,),
    "greeting 554": (Event.GREETING_REFUSED,),
    "greeting garbage": (Event.LOST_EARLY,),
    "closes at once": (Event.LOST_EARLY,),
    "no greeting": (Event.LOST_EARLY,),
    "EHLO unanswered": (Event.LOST_EARLY,),
    "EHLO closes": (Event.LOST_EARLY,),
    "EHLO 421": (Event.SESSION_REFUSED,),
    "EHLO unknown": (Event.EHLO_REFUSED,),
    "STARTTLS not offered": (Event.STARTTLS_NOT_OFFERED,),
    "STARTTLS 454": (OFFERED, Event.STARTTLS_DEFERRED),
    "STARTTLS 454, then closes": (OFFERED, Event.STARTTLS_DEFERRED),
    "STARTTLS 421": (OFFERED, Event.STARTTLS_DEFERRED),
    "STARTTLS 501": (OFFERED, Event.STARTTLS_REFUSED),
    "STARTTLS garbage": (OFFERED, Event.LOST_BEFORE_220),
    "closes on STARTTLS": (OFFERED, Event.LOST_BEFORE_220),
    "STARTTLS unanswered": (OFFERED, Event.LOST_BEFORE_220),
    "half a 220": (OFFERED, Event.LOST_BEFORE_220),
    "closes after 220": (OFFERED, Event.LOST_AFTER_220),
    "silent after 220": (OFFERED, Event.LOST_AFTER_220),
    "closes in the handshake": (OFFERED, Event.LOST_AFTER_220),
    "injects after 220": (OFFERED, Event.LOST_AFTER_220),
    "clear text after 220": (OFFERED, Event.HANDSHAKE_FAILED),
    "old protocol only": (OFFERED, Event.PARAMETERS_REFUSED),
    "weak cipher only": (OFFERED, Event.PARAMETERS_REFUSED),
    "closes after handshake": (*VERIFIED, Event.LOST_ENCRYPTED),
    "EHLO refused after handshake": (*VERIFIED, Event.REFUSED_ENCRYPTED),
    "MAIL 421": (*VERIFIED, Event.LOST_IN_TRANSACTION),
    "closes on MAIL": (*VERIFIED, Event.LOST_IN_TRANSACTION),
    "closes on RCPT": (*VERIFIED, Event.LOST_IN_TRANSACTION),
    "closes on DATA": (*VERIFIED, Event.LOST_IN_TRANSACTION),
    "closes before the end of data": (*VERIFIED, Event.LOST_IN_TRANSACTION),
    "closes after the end of data": (*VERIFIED, Event.LOST_AT_THE_END),
    "MAIL 451": (*VERIFIED, Event.DEFERRED),
    "RCPT 451": (*VERIFIED, Event.DEFERRED),
    "DATA 451": (*VERIFIED, Event.DEFERRED),
    "message 451": (*VERIFIED, Event.DEFERRED),
    "MAIL 550": (*VERIFIED, Event.REFUSED),
    "RCPT 550": (*VERIFIED, Event.REFUSED),
    "DATA 554": (*VERIFIED, Event.REFUSED),
    "message 554": (*VERIFIED, Event.REFUSED),
}
# Some protocol versions and ciphers are refused by us alone: nothing old, and nothing but GCM.
STRICT: Final[dict[str, Any]] = {"min_version": "TLSv1.2", "ciphers": "ECDHE+AESGCM"}
SENT_IN_CLEAR = {Decision.CLEAR, Decision.CLEAR_ANEW}
# The large text makes us notice that a next hop is gone before all of it is sent.
LARGE = LETTER + (b"x" * 76 + b"\r\n") * 20_000


def resolved(mode: TLSMode) -> ResolvedTLSMode:
    return "RequiredVerify" if mode == "Default" else mode


def domain_of(mode: TLSMode) -> str:
    return f"{mode.lower()}.mail.example"


@dataclass
class Matrix:
    """Seven domains, one per mode, each with its server."""

    made: Delivering
    servers: dict[TLSMode, FaultySMTP]
    senders: FaultySMTP
    """Where bounces go."""

    async def send(self, body: bytes = LETTER) -> None:
        for mode in self.servers:
            await self.made.send(f"someone@{domain_of(mode)}", body=body)

    def delivered(self, mode: TLSMode) -> list[bool]:
        """Whether each message that arrived came over TLS."""
        return [one.tls for one in self.servers[mode].delivered]

    async def ended(self, mode: TLSMode, decision: Decision) -> None:
        """Return once the message for `mode` has come to what `decision` says."""
        domain = domain_of(mode)
        match decision:
            case Decision.CLEAR | Decision.CLEAR_ANEW:
                await until(lambda: self.delivered(mode) == [False], f"{mode}: delivery in clear text")
            case Decision.ENCRYPTED:
                await until(lambda: self.delivered(mode) == [True], f"{mode}: an encrypted delivery")
            case Decision.BOUNCE:
                await until(
                    lambda: any(domain.encode() in one.data for one in self.senders.delivered),
                    f"{mode}: a bounce",
                )
            case _:
                await until(lambda: domain in self.made.deferred(), f"{mode}: a deferral")
                assert self.delivered(mode) == []

    def nothing_in_clear(self, mode: TLSMode, decision: Decision, met: tuple[Event, ...]) -> None:
        """The oracle: the bytes that came outside of TLS."""
        clear = self.servers[mode].clear
        fallen_back = decision in SENT_IN_CLEAR or met[0] is not OFFERED
        if resolved(mode).startswith("Required") or (mode != "No" and not fallen_back):
            assert b"MAIL" not in clear
            assert b"secret" not in clear
        if mode == "No":
            assert b"STARTTLS" not in clear


@contextlib.asynccontextmanager
async def matrix(
    directory: Path, certificate: Callable[[str], bytes], root: Signer, fault: Fault = "", **changes: Any
) -> AsyncGenerator[Matrix]:
    async with contextlib.AsyncExitStack() as ends:
        servers: dict[TLSMode, FaultySMTP] = {
            mode: await ends.enter_async_context(FaultySMTP(certificate(domain_of(mode)), fault=fault))
            for mode in MODES
        }
        senders = await ends.enter_async_context(FaultySMTP())
        names = await ends.enter_async_context(Nameserver({}))
        timeouts = TIMEOUTS if fault in SILENT else Timeouts()
        made = await ends.enter_async_context(delivering(directory, timeouts=timeouts))
        made.trusted = [root.pem]
        made.settings = made.settings.model_copy(update={"resolvers": [names.address]})
        back = destination("sender.example", resource="back", tls_mode="No", routes=[route(senders.port)])
        made.apply(*(to(mode, servers[mode].port, **changes) for mode in MODES), back)
        yield Matrix(made, servers, senders)


def to(mode: TLSMode, port: int, **changes: Any) -> Destination:
    """The destination of the domain for `mode`; `Default` as the operator resolves it."""
    domain = domain_of(mode)
    if mode != "Default":
        return destination(domain, resource=mode, tls_mode=mode, routes=[route(port)], **changes)
    plan = decide(
        builders.world(
            builders.gateway(),
            builders.destination("all", "*", tls={"mode": "RequiredVerify"}),
            builders.destination("Default", domain, routes=[{"host": "127.0.0.1", "port": port}]),
        ),
        builders.NOW,
    )
    made = plan.mounts["default"].snapshot.destinations
    return next(one for one in made if one.resource == "Default").model_copy(update=changes)


@pytest.fixture(scope="module")
def root() -> Signer:
    return Signer.of(Authority())


def good(root: Signer) -> Callable[[str], bytes]:
    return lambda domain: chains.served(chains.make(root, domain))


@pytest.mark.parametrize("fault", FAULTS, ids=[fault or "no fault" for fault in FAULTS])
async def test_every_mode_does_what_the_table_says(tmp_path: Path, root: Signer, fault: Fault) -> None:
    met = FAULTS[fault]
    strict = STRICT if met[-1] is Event.PARAMETERS_REFUSED else {}
    body = LARGE if fault == "closes before the end of data" else LETTER
    async with matrix(tmp_path, good(root), root, fault, **strict) as seven:
        await seven.send(body)
        for mode, server in seven.servers.items():
            decision = outcomes_table.walk(resolved(mode), met)
            await seven.ended(mode, decision)
            seven.nothing_in_clear(mode, decision, met)
            server.fault = ""
        # What was not delivered waits, and goes later, on the same terms.
        waiting: set[TLSMode] = {mode for mode in MODES if not seven.servers[mode].delivered}
        bounced = met[-1] is Event.REFUSED
        await seven.made.spool.hasten()
        await until(lambda: seven.made.spool.queue_length() == 0, "an empty queue")
        for mode in waiting if not bounced else ():
            assert seven.delivered(mode) == [mode != "No"]
            seven.nothing_in_clear(mode, Decision.ENCRYPTED, VERIFIED)


@pytest.mark.parametrize(
    "fault", ["", *(fault for fault in FAULTS if FAULTS[fault][-1] is Event.LOST_AFTER_220)]
)
async def test_a_host_that_fails_after_the_220_is_followed_by_the_next_one(
    tmp_path: Path, root: Signer, fault: Fault
) -> None:
    async with contextlib.AsyncExitStack() as ends:
        first = await ends.enter_async_context(matrix(tmp_path, good(root), root, fault))
        second = {
            mode: await ends.enter_async_context(FaultySMTP(good(root)(domain_of(mode)))) for mode in MODES
        }
        back = first.made.destinations[-1]
        routed = [
            one.model_copy(update={"routes": [*one.routes, route(second[mode].port, priority=1)]})
            for mode, one in zip(MODES, first.made.destinations[:-1], strict=True)
        ]
        first.made.apply(*routed, back)
        await first.send()
        await until(lambda: first.made.spool.queue_length() == 0, "an empty queue")
        for mode in MODES:
            decision = outcomes_table.walk(resolved(mode), FAULTS[fault])
            taken = second if decision is Decision.NEXT_HOST else first.servers
            assert [one.tls for one in taken[mode].delivered] == [mode != "No"]
            first.nothing_in_clear(mode, decision, FAULTS[fault])


@pytest.mark.parametrize("problem", chains.BAD)
async def test_what_is_wrong_with_a_certificate_stops_those_who_insist(
    tmp_path: Path, root: Signer, problem: str
) -> None:
    event = Event[problem.partition(",")[0]]
    met = (OFFERED, Event.ENCRYPTED, event)
    async with matrix(tmp_path, lambda domain: chains.BAD[problem](root, domain), root) as seven:
        await seven.send()
        for mode, server in seven.servers.items():
            decision = outcomes_table.walk(resolved(mode), met)
            await seven.ended(mode, decision)
            seven.nothing_in_clear(mode, decision, met)
            if "Verify" in resolved(mode):
                said = [line["message"] for line in seven.made.lines if f"{event}: " in line["message"]]
                assert any(domain_of(mode) in line for line in said), said
            server.use_certificate(good(root)(domain_of(mode)))
        await seven.made.spool.hasten()
        await until(lambda: seven.made.spool.queue_length() == 0, "an empty queue")
        for mode in MODES:
            assert seven.delivered(mode) == [mode != "No"]


@pytest.mark.parametrize("kind", chains.GOOD)
async def test_what_verifies_is_delivered_under_every_mode(tmp_path: Path, root: Signer, kind: str) -> None:
    async with matrix(tmp_path, lambda domain: chains.GOOD[kind](root, domain), root) as seven:
        await seven.send()
        await until(lambda: seven.made.spool.queue_length() == 0, "an empty queue")
        for mode in MODES:
            assert seven.delivered(mode) == [mode != "No"]
            await until(lambda mode=mode: (one := seven.made.state(mode)) and one.last_tls, "a last delivery")
            state = seven.made.state(mode)
            assert state is not None
            assert state.last_tls is not None
            assert state.last_tls.verified == ("Verify" in resolved(mode))


async def test_a_host_that_is_not_there_delays_the_mail_under_every_mode(
    tmp_path: Path, root: Signer
) -> None:
    async with matrix(tmp_path, good(root), root) as seven:
        for server in seven.servers.values():
            server.stop_listening()
        await seven.send()
        for mode in MODES:
            assert outcomes_table.walk(resolved(mode), (Event.UNREACHABLE,)) is Decision.NEXT_HOST
            await seven.ended(mode, Decision.NEXT_HOST)
            assert "Unreachable" in {one.reason for one in seven.made.state(mode).failing}  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("fault", ["250 before the text", "250 in the text"])
async def test_a_reply_to_a_message_that_was_not_sent_loses_no_message(
    tmp_path: Path, root: Signer, fault: Fault, *, tls: bool
) -> None:
    certificate = good(root)("mail.example") if tls else None
    server = FaultySMTP(certificate, fault=fault, keywords=("PIPELINING",))
    async with server, delivering(tmp_path, timeouts=Timeouts()) as made:
        made.apply(destination("mail.example", resource="mail", routes=[route(server.port)]))
        # More than all buffers on the way take, so that the reply comes while there is something left to send.
        await made.send("someone@mail.example", body=LETTER + (b"x" * 76 + b"\r\n") * 300_000)
        await until(made.deferred, "a deferral", seconds=60)
        assert made.logged("answers before it has got everything")
        server.fault = ""
        await made.spool.hasten()
        await until(lambda: server.delivered, "the message", seconds=60)
