"""One mail transaction over a connection: MAIL, RCPT, DATA, pipelined where offered (RFC 2920).

Called by `session`. What the next hop said of each recipient comes back as a Reply (taken) or a Failure.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from letterlock_gateway.deliver import envelopes, outcomes_table
from letterlock_gateway.deliver.connecting import Connection
from letterlock_gateway.deliver.envelopes import Envelope, Refused, Stuffing
from letterlock_gateway.deliver.failures import Failure
from letterlock_gateway.deliver.outcomes_table import Decision, Event
from letterlock_gateway.deliver.replies import Reply
from letterlock_gateway.deliver.terms import Timeouts
from letterlock_gateway.deliver.wire import Lost
from letterlock_gateway.spool import Content, Queued, SpoolFailed

Said = dict[int, Reply | Failure]
"""By rid: the reply that took it, or why not."""
_START_INPUT: Final = 354
_CLOSING: Final = 421
# The final reply may take as long as the next hop needs for the whole message.
_BYTES_PER_SECOND: Final = 20_000


class Interrupted(Exception):  # noqa: N818 - names what happened
    """The connection ended before the message was sent: recipients not in `said` may be tried elsewhere."""

    def __init__(self, said: Said, failure: Failure) -> None:
        super().__init__(failure.text)
        self.said = said
        self.failure = failure


async def send(
    connection: Connection, recipients: Sequence[Queued], content: Content, timeouts: Timeouts
) -> Said:
    """Send one message to `recipients`. Raises Interrupted."""
    if not _may_carry(connection):
        # `connecting` never makes such a connection; that clear text never goes out shall not rest on it alone.
        text = "this connection is not protected as the policy requires"
        connection.wire.abort(text)
        raise Interrupted({}, _failure(connection, permanent=False, status="4.7.5", text=text))
    envelope = envelopes.prepare(recipients, content, connection.offered)
    if isinstance(envelope, Refused):
        refusal = _failure(connection, permanent=True, status=envelope.status, text=envelope.text)
        return {one.rid: refusal for one in recipients}
    return await _Transaction(connection, recipients, envelope, content, timeouts).run()


def _may_carry(connection: Connection) -> bool:
    """Whether mail may go over it: what the policy requires is so, on the connection itself."""
    mode = connection.terms.policy.tls_mode
    if mode in outcomes_table.REQUIRING and connection.wire.ssl_object is None:
        return False
    return connection.tls.verified or not outcomes_table.insists_on_verification(mode)


class _Transaction:
    def __init__(
        self,
        connection: Connection,
        recipients: Sequence[Queued],
        envelope: Envelope,
        content: Content,
        timeouts: Timeouts,
    ) -> None:
        self._connection = connection
        self._wire = connection.wire
        self._recipients = recipients
        self._envelope = envelope
        self._content = content
        self._timeouts = timeouts
        self._said: Said = {}
        self._taken: list[Queued] = []
        self._pipelined = "PIPELINING" in connection.offered

    async def run(self) -> Said:
        try:
            await self._until_data()
            if self._taken:
                await self._text()
        except Lost as lost:
            early = self._early_refusal()
            if early is None:
                event = Event.LOST_IN_TRANSACTION
                raise Interrupted(self._said, _lost(self._connection, event, str(lost))) from lost
            self._conclude(early)
            return self._said
        if self._taken:
            self._conclude(await self._final())
        return self._said

    async def _text(self) -> None:
        stuffing = Stuffing(plain=self._content.plain)
        held = b""  # the last piece goes out together with the end: a small message is one record
        try:
            async with contextlib.aclosing(self._content.pieces()) as pieces:
                async for piece in pieces:
                    await self._wire.send_all(held, self._timeouts.block)
                    held = stuffing.feed(piece)
        except SpoolFailed as problem:
            # Half a message must never get its end.
            self._wire.abort(str(problem))
            raise Lost(str(problem)) from problem
        await self._wire.send_all(held + stuffing.end(), self._timeouts.block)

    async def _until_data(self) -> None:
        """Everything up to the reply to DATA. Fills `_taken` only where the text may follow."""
        envelope, timeouts = self._envelope, self._timeouts
        group = [envelope.mail, *envelope.recipients, "DATA"]
        if self._pipelined:
            self._wire.send(("\r\n".join(group) + "\r\n").encode("utf-8"))
        mail = await self._step(group[0], timeouts.mail)
        if mail.kind != 2:
            self._refuse(self._recipients, mail)
            if self._pipelined:
                await self._drain(len(self._recipients), timeouts)
            else:
                await self._reset()
            return
        accepted: list[Queued] = []
        for one, line in zip(self._recipients, envelope.recipients, strict=True):
            reply = await self._step(line, timeouts.recipient)
            if reply.kind == 2:
                accepted.append(one)
            else:
                self._refuse([one], reply)
        if not accepted and not self._pipelined:
            await self._reset()
            return
        await self._data(accepted)

    async def _data(self, accepted: list[Queued]) -> None:
        reply = await self._step("DATA", self._timeouts.data)
        if reply.code != _START_INPUT:
            self._refuse(accepted, reply)
            await self._reset()
        elif accepted:
            self._taken = accepted
        else:
            # A server that wants the text all the same gets none (RFC 2920 section 3.1).
            await self._wire.command(".", self._timeouts.end)
            await self._reset()

    async def _drain(self, recipients: int, timeouts: Timeouts) -> None:
        for _ in range(recipients):
            await self._wire.reply(timeouts.recipient)
        await self._data([])

    async def _step(self, line: str, seconds: float) -> Reply:
        reply = (
            await self._wire.reply(seconds) if self._pipelined else await self._wire.command(line, seconds)
        )
        if reply.code == _CLOSING:
            # "Enough for this connection", often; says nothing about the mail.
            self._wire.abort(f"the next hop closes the connection: {reply}")
            raise Lost(str(reply))
        return reply

    async def _reset(self) -> None:
        """Make the connection fit for the next message."""
        if (await self._wire.command("RSET", self._timeouts.mail)).kind != 2:
            self._wire.quit()

    async def _final(self) -> Reply | Failure:
        timeout = self._timeouts.end + self._content.size / _BYTES_PER_SECOND
        try:
            return await self._wire.reply(timeout)
        except Lost as lost:
            return _lost(self._connection, Event.LOST_AT_THE_END, str(lost))

    def _early_refusal(self) -> Reply | None:
        """The refusal that came while the text was being sent, of a next hop that then closed."""
        reply = self._wire.unread() if self._taken else None
        return reply if reply is not None and reply.kind in (4, 5) else None

    def _conclude(self, final: Reply | Failure) -> None:
        if isinstance(final, Reply) and final.kind != 2:
            self._refuse(self._taken, final)
        else:
            self._said |= {one.rid: final for one in self._taken}

    def _refuse(self, recipients: Sequence[Queued], reply: Reply) -> None:
        connection = self._connection
        failure = Failure.of_reply(
            reply,
            connection.terms.policy.tls_mode,
            host=connection.target.host.label,
            address=connection.target.address,
            over_tls=connection.tls.protocol is not None,
        )
        self._said |= {one.rid: failure for one in recipients}


def _failure(connection: Connection, *, permanent: bool, status: str, text: str) -> Failure:
    return Failure(
        permanent,
        status,
        text,
        host=connection.target.host.label,
        address=connection.target.address,
        over_tls=connection.tls.protocol is not None,
    )


def _lost(connection: Connection, event: Event, detail: str) -> Failure:
    mode = connection.terms.policy.tls_mode
    return replace(
        _failure(
            connection,
            permanent=outcomes_table.decide(mode, event) is Decision.BOUNCE,
            status=outcomes_table.status(event),
            text=f"{event}: {detail}",
        ),
        event=event,
    )
