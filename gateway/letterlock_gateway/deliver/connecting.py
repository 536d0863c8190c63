"""Makes one connection to one address, on the terms of the destination: greeting, EHLO, STARTTLS, check.

The shell around `outcomes_table`: after each step it asks the table, and does what that says. Called by
`session`, which gets a `Connection` that mail may be sent over, or `GivenUp`.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from letterlock_api.destinationcontrol import NameSource
from letterlock_api.snapshot import ResolvedTLSMode
from letterlock_gateway import values
from letterlock_gateway.deliver import checks, outcomes_table, replies, routing, signing_in
from letterlock_gateway.deliver.failures import Failure
from letterlock_gateway.deliver.lookups import Lookups
from letterlock_gateway.deliver.outcomes_table import Decision, Event
from letterlock_gateway.deliver.replies import Reply
from letterlock_gateway.deliver.routing import Target
from letterlock_gateway.deliver.terms import Terms, Timeouts
from letterlock_gateway.deliver.tracing import SILENT, Trace
from letterlock_gateway.deliver.wire import Lost, Wire
from letterlock_gateway.report import tls_sessions
from letterlock_gateway.report.log import Log
from letterlock_gateway.report.metrics import TLS

_READY: Final = 220
_DONE: Final = 250
_CLOSING: Final = 421
# What OpenSSL calls it when there is no protocol version, or no cipher, that both sides would take: found by
# ourselves, or told by the peer in an alert (RFC 8446 section 6.2). handshake_failure (40) also stands for a
# certificate of ours that was missed, up to TLS 1.2.
_NO_COMMON_PARAMETERS: Final = frozenset(
    {
        "UNSUPPORTED_PROTOCOL",
        "NO_PROTOCOLS_AVAILABLE",
        "NO_CIPHERS_AVAILABLE",
        "WRONG_CIPHER_RETURNED",
        "DH_KEY_TOO_SMALL",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "TLSV1_ALERT_INSUFFICIENT_SECURITY",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "TLSV1_ALERT_UNKNOWN_CA",
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    }
)


def handshake_event(reason: str | None) -> Event:
    """Which failure of a handshake `reason` (OpenSSL's word) is."""
    return Event.PARAMETERS_REFUSED if reason in _NO_COMMON_PARAMETERS else Event.HANDSHAKE_FAILED


class GivenUp(Exception):  # noqa: N818 - names what was done
    """The host is given up."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class _InClear(Exception):  # noqa: N818 - a turn that the table orders, no error
    """The connection is lost, and the table says: once more, in clear text."""


@values.value
class TLSResult:
    """What became of TLS on a connection that mail may be sent over."""

    protocol: str | None = None
    """None: clear text."""
    cipher: str | None = None
    verified: bool = False
    matched_name: str | None = None
    name_source: NameSource | None = None
    reason: str = ""
    """For people: what matched; or why not verified, or not encrypted."""


_CLEAR: Final = TLSResult()


@dataclass
class Connection:
    """A connection that mail may be sent over."""

    dcid: int
    target: Target
    terms: Terms
    wire: Wire
    tls: TLSResult = _CLEAR
    offered: Mapping[str, str] = field(default_factory=dict[str, str])
    """Keywords of the EHLO reply, upper case. After TLS nothing from before counts."""
    messages: int = 0
    """Sent over it so far."""


@dataclass(frozen=True)
class Connector:
    """Makes connections. One per attempt at a domain."""

    terms: Terms
    lookups: Lookups
    mail_log: Log
    timeouts: Timeouts
    clock: Callable[[], float]
    new_dcid: Callable[[], int]
    trace: Trace = SILENT
    judge: Callable[[ResolvedTLSMode, Event], Decision] = outcomes_table.decide
    """The outcome table. `letterlock check` goes as far as it can, whatever the mode: it sends no mail."""

    async def connect(self, target: Target) -> Connection:
        """A connection to `target` that mail may be sent over. Raises GivenUp."""
        try:
            return await _Attempt(self, target, in_clear=False).run()
        except _InClear:
            return await _Attempt(self, target, in_clear=True).run()


def peer_of(terms: Terms, target: Target, lookups: Lookups) -> checks.Peer:
    """The host at `target`, for the check of its certificate."""
    host = target.host
    return checks.Peer(
        domain=terms.domain,
        route=host.name if host.by == "Route" else "",
        mx_names=lambda: routing.mx_names(terms.domain, target, lookups),
        reverse_names=lambda: lookups.reverse_names(target.address),
    )


class _Attempt:
    """One connection from SYN to the EHLO reply that counts."""

    def __init__(self, connector: Connector, target: Target, *, in_clear: bool) -> None:
        self._by = connector
        self._terms = connector.terms
        self._mode: ResolvedTLSMode = connector.terms.policy.tls_mode
        self._target = target
        self._in_clear = in_clear
        self._dcid = connector.new_dcid()
        self._wire: Wire | None = None

    async def run(self) -> Connection:
        self._by.trace.begins(in_clear=self._in_clear)
        try:
            connection = await self._open()
            if self._target.host.implicit_tls:
                connection.tls = await self._start_tls(connection)
                await self._greeting(connection)
                await self._hello_again(connection)
            else:
                await self._greeting(connection)
                await self._hello(connection)
            await self._sign_in(connection)
        except BaseException:
            if self._wire is not None:
                self._wire.quit()
            raise
        return connection

    async def _open(self) -> Connection:
        target, timeouts = self._target, self._by.timeouts
        try:
            self._wire = wire = await Wire.open(target.address, target.host.port, seconds=timeouts.connect)
        except Lost as lost:
            text = f"address {target.address} port {target.host.port}: {lost}"
            self._by.mail_log.info(
                f"Connection Error: DCID {self._dcid} domain: {self._terms.domain} IP: {target.address}"
                f" port: {target.host.port} details: {lost}",
                dcid=self._dcid,
            )
            raise self._given_up(Event.UNREACHABLE, text) from lost
        self._by.mail_log.info(
            f"New SMTP DCID {self._dcid} interface {wire.local_address} address {target.address}"
            f" port {target.host.port}",
            dcid=self._dcid,
        )
        self._by.trace.connected(wire)
        return Connection(self._dcid, target, self._terms, wire)

    async def _greeting(self, connection: Connection) -> None:
        try:
            reply = await connection.wire.reply(self._by.timeouts.greeting)
        except Lost as lost:
            raise self._given_up(Event.LOST_EARLY, f"no greeting: {lost}") from lost
        self._by.trace.replied("", reply)
        if reply.code != _READY:
            event = Event.GREETING_REFUSED if reply.kind == 5 else Event.GREETING_DEFERRED
            raise self._given_up(event, "", reply)

    async def _hello(self, connection: Connection) -> None:
        reply = await self._say_hello(connection, "EHLO")
        if reply.code == _DONE:
            connection.offered = replies.offered(reply)
            offers = "STARTTLS" in connection.offered
            event, detail = Event.STARTTLS_OFFERED if offers else Event.STARTTLS_NOT_OFFERED, ""
        elif reply.code == _CLOSING:  # it closes the connection; that says nothing about EHLO
            raise self._given_up(Event.SESSION_REFUSED, "", reply)
        else:
            event, detail = Event.EHLO_REFUSED, str(reply)
        self._by.trace.met(event, str(reply) if event is not Event.STARTTLS_OFFERED else "")
        decision = self._decide(event)
        if decision is Decision.START_TLS and not self._in_clear:
            await self._negotiate(connection)
            return
        if decision is Decision.NEXT_HOST:
            raise self._given_up(event, "", reply)
        if event is Event.EHLO_REFUSED:
            reply = await self._say_hello(connection, "HELO")
            if reply.code != _DONE:
                raise self._given_up(Event.SESSION_REFUSED, "", reply)
        if self._in_clear:
            event = Event.LOST_BEFORE_220
        if self._mode != "No":
            connection.tls = TLSResult(reason=self._said(event, detail))
            self._log_failure(connection.tls.reason)
            self._count("clear", event)

    async def _negotiate(self, connection: Connection) -> None:
        try:
            reply = await connection.wire.command("STARTTLS", self._by.timeouts.start_tls)
        except Lost as lost:
            self._by.trace.met(Event.LOST_BEFORE_220, str(lost))
            if self._decide(Event.LOST_BEFORE_220) is Decision.CLEAR_ANEW:
                self._log_failure(self._said(Event.LOST_BEFORE_220, str(lost)))
                raise _InClear from lost
            raise self._given_up(Event.LOST_BEFORE_220, str(lost)) from lost
        self._by.trace.replied("STARTTLS", reply)
        if reply.code != _READY:
            event = Event.STARTTLS_DEFERRED if reply.kind == 4 else Event.STARTTLS_REFUSED
            self._by.trace.met(event, str(reply))
            if self._decide(event) is not Decision.CLEAR:
                raise self._given_up(event, "", reply)
            await self._see_that_it_stands(connection, reply)
            connection.tls = TLSResult(reason=self._said(event, str(reply)))
            self._log_failure(connection.tls.reason)
            self._count("clear", event)
            return
        connection.tls = await self._start_tls(connection)
        await self._hello_again(connection)

    async def _see_that_it_stands(self, connection: Connection, refusal: Reply) -> None:
        """After a refusal of STARTTLS: some close then, and would be given up although clear text may go to them."""
        try:
            reply = await connection.wire.command("RSET", self._by.timeouts.start_tls)
        except Lost as lost:
            said = f"{refusal}; {lost}"
        else:
            if reply.code != _CLOSING:
                return
            said = f"{refusal}; {reply}"
        if self._decide(Event.LOST_BEFORE_220) is not Decision.CLEAR_ANEW:
            raise self._given_up(Event.LOST_BEFORE_220, said)
        self._log_failure(self._said(Event.LOST_BEFORE_220, said))
        raise _InClear

    async def _start_tls(self, connection: Connection) -> TLSResult:
        """The handshake and the check. From here on there is no way back to clear text."""
        connection.offered = {}
        wire = connection.wire
        try:
            await wire.start_tls(self._terms.context(), self._target.host.name, self._by.timeouts.handshake)
        except Lost as lost:
            raise self._given_up(Event.LOST_AFTER_220, str(lost)) from lost
        except ssl.SSLError as error:
            event = handshake_event(error.reason)
            raise self._given_up(event, error.reason or str(error)) from error
        session = wire.ssl_object
        if session is None:
            raise self._given_up(Event.HANDSHAKE_FAILED, "no TLS session")
        cipher = session.cipher()
        protocol, suite = session.version() or "TLS", cipher[0] if cipher else ""
        self._by.trace.encrypted(session)
        self._by.trace.met(Event.ENCRYPTED, f"{protocol} {suite}".strip())
        success = f"DCID {self._dcid} TLS success protocol {protocol} cipher {suite}"
        if self._decide(Event.ENCRYPTED) is not Decision.CHECK:
            self._by.mail_log.info(success, dcid=self._dcid)
            self._count("encrypted", None, protocol)
            return TLSResult(protocol, suite, reason="not checked under this policy")
        peer = peer_of(self._terms, self._target, self._by.lookups)
        checked = await checks.check(session, self._terms.policy, self._terms.trust, peer, self._by.clock())
        if self._decide(checked.event) is Decision.NEXT_HOST:
            raise self._given_up(checked.event, checked.detail)
        if checked.reference is None:
            self._by.mail_log.info(
                f"{success}, not verified: {checked.event}: {checked.detail}", dcid=self._dcid
            )
            self._count("encrypted", checked.event, protocol)
            return TLSResult(protocol, suite, reason=f"{checked.event}: {checked.detail}")
        name, source = checked.reference.name, checked.reference.source
        self._by.mail_log.info(f"{success} verified name {name} ({source})", dcid=self._dcid)
        self._count("verified", None, protocol)
        return TLSResult(protocol, suite, True, name, source, checked.detail)

    async def _hello_again(self, connection: Connection) -> None:
        """EHLO inside TLS: what was offered in clear text is forgotten (RFC 3207 section 4.2)."""
        try:
            reply = await connection.wire.command(f"EHLO {self._terms.hostname}", self._by.timeouts.hello)
        except Lost as lost:
            # With TLS 1.3 this is how a refusal of our certificate shows.
            raise self._given_up(Event.LOST_ENCRYPTED, str(lost)) from lost
        self._by.trace.replied("EHLO", reply)
        if reply.code != _DONE:
            raise self._given_up(Event.REFUSED_ENCRYPTED, "", reply)
        connection.offered = replies.offered(reply)

    async def _sign_in(self, connection: Connection) -> None:
        """At a route that wants it. Never over a connection that is not verified, whatever the mode."""
        file = self._target.host.auth_file
        if not file:
            return
        if not connection.tls.verified:
            raise self._given_up(Event.SIGN_IN_NOT_OFFERED, "a password goes only over verified TLS")
        try:
            refused = await signing_in.sign_in(
                connection.wire, connection.offered, self._terms.credentials[file], self._by.timeouts.hello
            )
        except Lost as lost:
            raise self._given_up(Event.SIGN_IN_REFUSED, str(lost)) from lost
        if refused is not None:
            raise self._given_up(refused.event, refused.detail, refused.reply)
        self._by.mail_log.info(f"DCID {self._dcid} signed in at {self._target.host.label}", dcid=self._dcid)

    async def _say_hello(self, connection: Connection, verb: str) -> Reply:
        try:
            reply = await connection.wire.command(f"{verb} {self._terms.hostname}", self._by.timeouts.hello)
        except Lost as lost:
            raise self._given_up(Event.LOST_EARLY, f"no reply to {verb}: {lost}") from lost
        self._by.trace.replied(verb, reply)
        return reply

    def _decide(self, event: Event) -> Decision:
        return self._by.judge(self._mode, event)

    def _given_up(self, event: Event, detail: str, reply: Reply | None = None) -> GivenUp:
        target = self._target
        failure = Failure.of_event(
            event,
            " ".join(part for part in (detail, str(reply) if reply else "") if part),
            host=target.host.label,
            address=target.address,
            reply=str(reply) if reply else "",
        )
        self._by.trace.given_up(failure)
        if failure.is_tls:
            self._log_failure(failure.text)
            self._count("failed", event)
            if self._mode in outcomes_table.REQUIRING:
                self._by.mail_log.warning(
                    f"DCID {self._dcid} IP {target.address} TLS was required but could not be"
                    f" successfully negotiated",
                    dcid=self._dcid,
                )
        elif event is not Event.UNREACHABLE:
            self._by.mail_log.info(f"DCID {self._dcid} given up: {failure.text}", dcid=self._dcid)
        return GivenUp(failure)

    def _said(self, event: Event, detail: str) -> str:
        return f"{event}: {detail}" if detail else str(event)

    def _count(self, result: str, event: Event | None, protocol: str = "") -> None:
        """One more session, for metrics and for what TLS reports are made of."""
        counts, reason = self._by.mail_log.counts, outcomes_table.word(event) if event else ""
        kind = tls_sessions.result_type(reason)
        counts.add(TLS, "out", "", result, protocol, reason, kind)
        target = self._target
        counts.sessions.record((self._terms.domain, target.host.name, target.address, kind))

    def _log_failure(self, text: str) -> None:
        self._by.mail_log.info(f"DCID {self._dcid} TLS failed: {text}", dcid=self._dcid)
