"""What a delivery does when something happens on its way to TLS: `(mode, event) → decision`, as data. Pure.

This is D1–D8 of the feature list. Two promises can be read off the table, and tests hold them in every cell:
under a mode whose name begins with Required nothing ever goes on in clear text, and after the 220 reply to
STARTTLS no mode goes back to clear text. `connecting` asks here after each step and does nothing of its own.
"""

from collections.abc import Mapping
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
    ENCRYPTED = "handshake done"
    NOT_TRUSTED = "chain not trusted"
    NAME_MISMATCH = "name did not match"
    EXPIRED = "expired"
    VERIFIED = "verified"
    SESSION_REFUSED = "the remote host refuses the session"


class Decision(StrEnum):
    """What to do next."""

    START_TLS = "send STARTTLS"
    CHECK = "check the certificate"
    ENCRYPTED = "go on encrypted"
    CLEAR = "go on in clear"
    CLEAR_ANEW = "connect to the same host again and go on in clear"
    NEXT_HOST = "give this host up; the next one, and when none is left later"


_NO, _PREF, _REQ, _PREF_V, _REQ_V, _HOSTED = get_args(ResolvedTLSMode)
_TLS, _CHECK, _ENC = Decision.START_TLS, Decision.CHECK, Decision.ENCRYPTED
_CLEAR, _ANEW, _NEXT = Decision.CLEAR, Decision.CLEAR_ANEW, Decision.NEXT_HOST
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
    Event.ENCRYPTED:            (_ENC,   _ENC,   _ENC,   _CHECK, _CHECK, _CHECK),
    Event.NOT_TRUSTED:          (_ENC,   _ENC,   _ENC,   _ENC,   _NEXT,  _NEXT),
    Event.NAME_MISMATCH:        (_ENC,   _ENC,   _ENC,   _ENC,   _NEXT,  _NEXT),
    Event.EXPIRED:              (_ENC,   _ENC,   _ENC,   _ENC,   _NEXT,  _NEXT),
    Event.VERIFIED:             (_ENC,   _ENC,   _ENC,   _ENC,   _ENC,   _ENC),
    Event.SESSION_REFUSED:      (_NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT,  _NEXT),
}
# fmt: on

TABLE: Final[Mapping[tuple[ResolvedTLSMode, Event], Decision]] = {
    (mode, event): decision
    for event, row in _ROWS.items()
    for mode, decision in zip(_MODES, row, strict=True)
}
REQUIRING: Final[frozenset[ResolvedTLSMode]] = frozenset({_REQ, _REQ_V, _HOSTED})
"""Modes under which clear text is never an answer."""
BEFORE_TLS_IS_ASKED_FOR: Final = frozenset(
    {
        Event.UNREACHABLE,
        Event.GREETING_DEFERRED,
        Event.GREETING_REFUSED,
        Event.LOST_EARLY,
        Event.SESSION_REFUSED,
    }
)
"""What says nothing about TLS."""

# The word in status, condition, Event and metric, and the enhanced status code of the deferral (RFC 3463;
# 4.7.4 and 4.7.5 as Postfix uses them).
_WORDS: Final[Mapping[Event, tuple[Reason, str]]] = {
    Event.UNREACHABLE: (Reason.UNREACHABLE, "4.4.1"),
    Event.GREETING_DEFERRED: (Reason.UNREACHABLE, "4.3.2"),
    Event.GREETING_REFUSED: (Reason.UNREACHABLE, "4.3.2"),
    Event.LOST_EARLY: (Reason.UNREACHABLE, "4.4.2"),
    Event.SESSION_REFUSED: (Reason.UNREACHABLE, "4.3.2"),
    Event.EHLO_REFUSED: (Reason.TLS_NOT_OFFERED, "4.7.4"),
    Event.STARTTLS_NOT_OFFERED: (Reason.TLS_NOT_OFFERED, "4.7.4"),
    Event.STARTTLS_DEFERRED: (Reason.TLS_REFUSED, "4.7.4"),
    Event.STARTTLS_REFUSED: (Reason.TLS_REFUSED, "4.7.4"),
    Event.LOST_BEFORE_220: (Reason.TLS_REFUSED, "4.7.4"),
    Event.LOST_AFTER_220: (Reason.HANDSHAKE_FAILED, "4.7.5"),
    Event.HANDSHAKE_FAILED: (Reason.HANDSHAKE_FAILED, "4.7.5"),
    Event.NOT_TRUSTED: (Reason.NOT_TRUSTED, "4.7.5"),
    Event.NAME_MISMATCH: (Reason.NAME_MISMATCH, "4.7.5"),
    Event.EXPIRED: (Reason.EXPIRED, "4.7.5"),
}


def decide(mode: ResolvedTLSMode, event: Event) -> Decision:
    """What to do when `event` happens to a delivery under `mode`."""
    return TABLE[mode, event]


def word(event: Event) -> Reason:
    """The one word for a failure that `event` is."""
    return _WORDS[event][0]


def status(event: Event) -> str:
    """The enhanced status code of the deferral for a failure that `event` is."""
    return _WORDS[event][1]
