"""What a delivery does when something happens on its way to TLS: `(mode, event) → decision`, as data. Pure.

This is D1–D8 of the feature list. Two promises can be read off the table, and tests hold them in every cell:
under a mode whose name begins with Required nothing ever goes on in clear text, and after the 220 reply to
STARTTLS no mode goes back to clear text. `connecting` and `transactions` ask here after each step and do nothing
of their own; `letterlock check` asks for the modes that are not configured.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, get_args

from letterlock_api.conditions import Reason
from letterlock_api.snapshot import ResolvedTLSMode


class Event(StrEnum):
    """What happened; the value is how the log says it (D11)."""

    UNREACHABLE = "no connection"
    GREETING_DEFERRED = "the greeting says that it takes no mail now"
    GREETING_REFUSED = "the greeting refuses"
    LOST_EARLY = "connection lost before STARTTLS"
    EHLO_REFUSED = "the remote host does not know EHLO"
    STARTTLS_NOT_OFFERED = "STARTTLS is not in the EHLO reply"
    STARTTLS_OFFERED = "STARTTLS is in the EHLO reply"
    STARTTLS_DEFERRED = "STARTTLS was answered with a temporary error"
    STARTTLS_REFUSED = "STARTTLS was answered with an error"
    LOST_BEFORE_220 = "connection lost before the reply to STARTTLS"
    LOST_AFTER_220 = "connection lost in the handshake"
    HANDSHAKE_FAILED = "handshake failed"
    PARAMETERS_REFUSED = "handshake failed (protocol, cipher or our certificate refused)"
    ENCRYPTED = "handshake done"
    NOT_TRUSTED = "chain not trusted"
    SELF_SIGNED = "chain not trusted (self-signed)"
    ISSUER_MISSING = "chain not trusted (issuer missing)"
    NAME_MISMATCH = "name did not match"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    VERIFIED = "verified"
    LOST_ENCRYPTED = "connection lost after the handshake"
    SESSION_REFUSED = "the remote host refuses the session"
    REFUSED_ENCRYPTED = "the remote host refuses the session after the handshake"
    SIGN_IN_NOT_OFFERED = "the remote host offers no sign-in that can be used"
    SIGN_IN_REFUSED = "the remote host refuses the sign-in"
    # Of a transaction; the connection has been made.
    DEFERRED = "a command got a temporary error"
    REFUSED = "a command got a permanent error"
    LOST_IN_TRANSACTION = "connection lost in the transaction"
    LOST_AT_THE_END = "connection lost while waiting for the reply to the message"


class Decision(StrEnum):
    """What to do next."""

    START_TLS = "send STARTTLS"
    CHECK = "check the certificate"
    ENCRYPTED = "go on encrypted"
    CLEAR = "go on in clear"
    CLEAR_ANEW = "connect to the same host again and go on in clear"
    NEXT_HOST = "give this host up; the next one, and when none is left later"
    WAIT = "the recipient waits"
    BOUNCE = "the recipient bounces"


_NO, _PREF, _REQ, _PREF_V, _REQ_V, _HOSTED = get_args(ResolvedTLSMode)
_TLS, _CHECK, _ENC = Decision.START_TLS, Decision.CHECK, Decision.ENCRYPTED
_CLEAR, _ANEW, _NEXT = Decision.CLEAR, Decision.CLEAR_ANEW, Decision.NEXT_HOST
_WAIT, _BOUNCE = Decision.WAIT, Decision.BOUNCE
_MODES: Final[tuple[ResolvedTLSMode, ...]] = get_args(ResolvedTLSMode)

# fmt: off
# Columns: No, Preferred, Required, PreferredVerify, RequiredVerify, RequiredVerifyHostedDomains.
# Under No, STARTTLS is never sent; its cells behind that are for routes with TLS from the first byte.
_ROWS: Final[Mapping[Event, tuple[Decision, ...]]] = {
    Event.UNREACHABLE:          (_NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT),
    Event.GREETING_DEFERRED:    (_NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT),
    Event.GREETING_REFUSED:     (_NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT),
    Event.LOST_EARLY:           (_NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT),
    Event.EHLO_REFUSED:         (_CLEAR, _CLEAR, _NEXT,  _CLEAR, _NEXT,  _NEXT),
    Event.STARTTLS_NOT_OFFERED: (_CLEAR, _CLEAR, _NEXT,  _CLEAR, _NEXT,  _NEXT),
    Event.STARTTLS_OFFERED:     (_CLEAR, _TLS,   _TLS,   _TLS,   _TLS,   _TLS),
    Event.STARTTLS_DEFERRED:    (_CLEAR, _CLEAR, _NEXT,  _CLEAR, _NEXT,  _NEXT),
    Event.STARTTLS_REFUSED:     (_CLEAR, _CLEAR, _NEXT,  _CLEAR, _NEXT,  _NEXT),
    Event.LOST_BEFORE_220:      (_ANEW,  _ANEW,  _NEXT,  _ANEW,  _NEXT,  _NEXT),
    # After the 220: never clear text again.
    Event.LOST_AFTER_220:       (_NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT),
    Event.HANDSHAKE_FAILED:     (_NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT),
    Event.PARAMETERS_REFUSED:   (_NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT),
    Event.ENCRYPTED:            (_ENC,   _ENC,   _ENC,   _CHECK, _CHECK, _CHECK),
    Event.NOT_TRUSTED:          (_ENC,   _ENC,   _ENC,   _ENC,   _NEXT,  _NEXT),
    Event.SELF_SIGNED:          (_ENC,   _ENC,   _ENC,   _ENC,   _NEXT,  _NEXT),
    Event.ISSUER_MISSING:       (_ENC,   _ENC,   _ENC,   _ENC,   _NEXT,  _NEXT),
    Event.NAME_MISMATCH:        (_ENC,   _ENC,   _ENC,   _ENC,   _NEXT,  _NEXT),
    Event.EXPIRED:              (_ENC,   _ENC,   _ENC,   _ENC,   _NEXT,  _NEXT),
    Event.NOT_YET_VALID:        (_ENC,   _ENC,   _ENC,   _ENC,   _NEXT,  _NEXT),
    Event.VERIFIED:             (_ENC,   _ENC,   _ENC,   _ENC,   _ENC,   _ENC),
    Event.LOST_ENCRYPTED:       (_NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT),
    Event.SESSION_REFUSED:      (_NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT),
    Event.REFUSED_ENCRYPTED:    (_NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT),
    Event.SIGN_IN_NOT_OFFERED:  (_NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT),
    Event.SIGN_IN_REFUSED:      (_NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT),
    # The same in every mode: by now the connection is one that mail may be sent over.
    Event.DEFERRED:             (_WAIT,  _WAIT,  _WAIT,  _WAIT,  _WAIT,  _WAIT),
    Event.REFUSED:              (_BOUNCE, _BOUNCE, _BOUNCE, _BOUNCE, _BOUNCE, _BOUNCE),
    Event.LOST_IN_TRANSACTION:  (_NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT),
    # It may have been taken, so not at once somewhere else (RFC 5321 section 4.5.4.2: rather twice than never).
    Event.LOST_AT_THE_END:      (_WAIT,  _WAIT,  _WAIT,  _WAIT,  _WAIT,  _WAIT),
}
# fmt: on

TABLE: Final[Mapping[tuple[ResolvedTLSMode, Event], Decision]] = {
    (mode, event): decision
    for event, row in _ROWS.items()
    for mode, decision in zip(_MODES, row, strict=True)
}
REQUIRING: Final[frozenset[ResolvedTLSMode]] = frozenset({_REQ, _REQ_V, _HOSTED})
"""Modes under which clear text is never an answer."""
NOT_ABOUT_TLS: Final = frozenset(
    {
        Event.UNREACHABLE,
        Event.GREETING_DEFERRED,
        Event.GREETING_REFUSED,
        Event.LOST_EARLY,
        Event.SESSION_REFUSED,
        Event.REFUSED_ENCRYPTED,
        Event.SIGN_IN_NOT_OFFERED,
        Event.SIGN_IN_REFUSED,
        Event.DEFERRED,
        Event.REFUSED,
        Event.LOST_IN_TRANSACTION,
        Event.LOST_AT_THE_END,
    }
)
"""What says nothing about TLS."""

CHECKS: Final = frozenset(
    {
        Event.NOT_TRUSTED,
        Event.SELF_SIGNED,
        Event.ISSUER_MISSING,
        Event.NAME_MISMATCH,
        Event.EXPIRED,
        Event.NOT_YET_VALID,
        Event.VERIFIED,
    }
)
"""What looking at the certificate comes to."""
_OF_TLS: Final = frozenset(Event) - NOT_ABOUT_TLS | {Event.REFUSED_ENCRYPTED}
_FIRST_OF_TLS: Final = frozenset({Event.EHLO_REFUSED, Event.STARTTLS_NOT_OFFERED, Event.STARTTLS_OFFERED})
_IN_CLEAR: Final = frozenset({Decision.CLEAR, Decision.CLEAR_ANEW})
_ENDS: Final = frozenset({Decision.NEXT_HOST, Decision.WAIT, Decision.BOUNCE})

# The word in status, condition, Event and metric, and the enhanced status code of the deferral (RFC 3463;
# 4.7.4 and 4.7.5 as Postfix uses them, 4.7.8 of RFC 4954).
_WORDS: Final[Mapping[Event, tuple[Reason, str]]] = {
    Event.UNREACHABLE: (Reason.UNREACHABLE, "4.4.1"),
    Event.GREETING_DEFERRED: (Reason.UNREACHABLE, "4.3.2"),
    Event.GREETING_REFUSED: (Reason.UNREACHABLE, "4.3.2"),
    Event.LOST_EARLY: (Reason.UNREACHABLE, "4.4.2"),
    Event.SESSION_REFUSED: (Reason.UNREACHABLE, "4.3.2"),
    Event.REFUSED_ENCRYPTED: (Reason.UNREACHABLE, "4.3.2"),
    Event.SIGN_IN_NOT_OFFERED: (Reason.SIGN_IN_REFUSED, "4.7.0"),
    Event.SIGN_IN_REFUSED: (Reason.SIGN_IN_REFUSED, "4.7.8"),
    Event.DEFERRED: (Reason.UNREACHABLE, "4.0.0"),
    Event.REFUSED: (Reason.UNREACHABLE, "5.0.0"),
    Event.LOST_IN_TRANSACTION: (Reason.UNREACHABLE, "4.4.2"),
    Event.LOST_AT_THE_END: (Reason.UNREACHABLE, "4.4.2"),
    Event.EHLO_REFUSED: (Reason.TLS_NOT_OFFERED, "4.7.4"),
    Event.STARTTLS_NOT_OFFERED: (Reason.TLS_NOT_OFFERED, "4.7.4"),
    Event.STARTTLS_DEFERRED: (Reason.TLS_REFUSED, "4.7.4"),
    Event.STARTTLS_REFUSED: (Reason.TLS_REFUSED, "4.7.4"),
    Event.LOST_BEFORE_220: (Reason.TLS_REFUSED, "4.7.4"),
    Event.LOST_AFTER_220: (Reason.HANDSHAKE_FAILED, "4.7.5"),
    Event.HANDSHAKE_FAILED: (Reason.HANDSHAKE_FAILED, "4.7.5"),
    Event.PARAMETERS_REFUSED: (Reason.HANDSHAKE_FAILED, "4.7.5"),
    Event.LOST_ENCRYPTED: (Reason.HANDSHAKE_FAILED, "4.7.5"),
    Event.NOT_TRUSTED: (Reason.NOT_TRUSTED, "4.7.5"),
    Event.SELF_SIGNED: (Reason.NOT_TRUSTED, "4.7.5"),
    Event.ISSUER_MISSING: (Reason.NOT_TRUSTED, "4.7.5"),
    Event.NAME_MISMATCH: (Reason.NAME_MISMATCH, "4.7.5"),
    Event.EXPIRED: (Reason.EXPIRED, "4.7.5"),
    Event.NOT_YET_VALID: (Reason.EXPIRED, "4.7.5"),
}


def decide(mode: ResolvedTLSMode, event: Event) -> Decision:
    """What to do when `event` happens to a delivery under `mode`."""
    return TABLE[mode, event]


def walk(mode: ResolvedTLSMode, met: Sequence[Event]) -> Decision:
    """Where a delivery under `mode` ends at a host where `met` is what happens to one that goes as far as it can.

    What a mode does not come to is left out: the handshake under No, the check of a certificate under Required.
    """
    return follow(mode, met)[0]


def follow(
    mode: ResolvedTLSMode, met: Sequence[Event], *, implicit_tls: bool = False
) -> tuple[Decision, int | None]:
    """As `walk`, and which of `met` (its index) ended it; None: nothing did.

    `implicit_tls`: the host speaks TLS from the first byte, under every mode.
    """
    decision = Decision.START_TLS if implicit_tls else Decision.CLEAR
    for number, event in enumerate(met):
        if event in _OF_TLS and decision in _IN_CLEAR and event not in _FIRST_OF_TLS:
            continue
        if event in CHECKS and decision is not Decision.CHECK:
            continue
        decision = decide(mode, event)
        if decision in _ENDS:
            return decision, number
    return decision, None


def insists_on_verification(mode: ResolvedTLSMode) -> bool:
    """Whether `mode` delivers to nobody that it cannot verify."""
    return decide(mode, Event.NOT_TRUSTED) is Decision.NEXT_HOST


def word(event: Event) -> Reason:
    """The one word for a failure that `event` is."""
    return _WORDS[event][0]


def status(event: Event) -> str:
    """The enhanced status code of the deferral for a failure that `event` is."""
    return _WORDS[event][1]
