"""What events and modes mean, in words for people who run a mail gateway: `letterlock check` shows them. Pure.

For every event there is a sentence that says what it means and what can be done; a test holds that.
"""

from collections.abc import Mapping
from typing import Final

from letterlock_api.snapshot import ResolvedTLSMode
from letterlock_gateway.deliver.outcomes_table import Event

_ASK_THEM: Final = "only whoever runs that host can change it"
_MEANING: Final[Mapping[Event, str]] = {
    Event.UNREACHABLE: "Nobody answers at this address and port: see whether a firewall on the way, or the host"
    " itself, refuses connections from here.",
    Event.GREETING_DEFERRED: "The host is there and takes no mail just now; its reply says why. Mail waits.",
    Event.GREETING_REFUSED: "The host is there and wants no mail from this address; its reply says why. A block"
    " list is the usual reason.",
    Event.LOST_EARLY: "The host took the connection and then did not speak SMTP: a filter in front of it, or a"
    " host that is too busy.",
    Event.EHLO_REFUSED: f"The host knows no ESMTP, so it cannot offer STARTTLS; {_ASK_THEM}. Some firewalls that"
    " rewrite SMTP do this, too.",
    Event.STARTTLS_NOT_OFFERED: f"The host offers no TLS; {_ASK_THEM}. A firewall that rewrites SMTP, or somebody"
    " on the way who wants to read along, looks the same.",
    Event.STARTTLS_OFFERED: "The host offers TLS.",
    Event.STARTTLS_DEFERRED: f"The host offers TLS and cannot do it now, often for want of a certificate; {_ASK_THEM}.",
    Event.STARTTLS_REFUSED: f"The host offers TLS and then refuses it; {_ASK_THEM}.",
    Event.LOST_BEFORE_220: "The connection was lost after STARTTLS was sent: a filter in front of the host that"
    " does not want TLS, or a fault of the host.",
    Event.LOST_AFTER_220: "The host agreed to TLS and then ended the connection, or said nothing more.",
    Event.HANDSHAKE_FAILED: "The two sides did not come to terms on TLS; the detail is OpenSSL's word for it.",
    Event.PARAMETERS_REFUSED: "The two sides have no protocol version or cipher in common, or the host wants a"
    " certificate of ours that it trusts: compare spec.tls.minVersion and spec.tls.ciphers, and"
    " spec.delivery.certificateRef of the MailGateway.",
    Event.ENCRYPTED: "The connection is encrypted.",
    Event.NOT_TRUSTED: "The certificate leads to no CA of the CA lists that count here: if the host may be trusted,"
    " put its CA into a CAList.",
    Event.SELF_SIGNED: "The host signed its certificate itself: if it may be trusted, put this very certificate"
    " into a CAList.",
    Event.ISSUER_MISSING: "The issuer of the certificate is in no CA list that counts here, and the host did not"
    " send it: the host should send its intermediates, or put the issuing CA into a CAList.",
    Event.NAME_MISMATCH: "The certificate is for other names than those that count: where a provider hosts the"
    " domain, RequiredVerifyHostedDomains takes the MX host's name; else set spec.tls.names.",
    Event.EXPIRED: f"A certificate of the chain has expired; {_ASK_THEM}.",
    Event.NOT_YET_VALID: "A certificate of the chain is not valid yet: if it should be, one of the clocks is wrong.",
    Event.VERIFIED: "The certificate leads to a CA that is trusted, is within its dates, and has a name that counts.",
    Event.LOST_ENCRYPTED: "The host ended the connection right after the handshake; with TLS 1.3 a refusal of our"
    " certificate, or the lack of one, looks like this.",
    Event.SESSION_REFUSED: "The host does not want to talk to us now; its reply says why.",
    Event.REFUSED_ENCRYPTED: "The host does not want to talk to us once it is encrypted; its reply says why.",
    Event.SIGN_IN_NOT_OFFERED: "The route has spec.routes.auth, and the host cannot be given the password: it must"
    " offer AUTH PLAIN or LOGIN, over TLS that is verified.",
    Event.SIGN_IN_REFUSED: "The host does not take the user name and password of spec.routes.auth.",
    Event.DEFERRED: "The host puts mail off; its reply says why.",
    Event.REFUSED: "The host refuses mail; its reply says why.",
    Event.LOST_IN_TRANSACTION: "The connection was lost while mail was being sent.",
    Event.LOST_AT_THE_END: "The connection was lost before the host said that it has the message.",
}
MODES: Final[Mapping[ResolvedTLSMode, str]] = {
    "No": "TLS is not negotiated",
    "Preferred": "TLS if it can be had, the certificate is not checked",
    "Required": "TLS or nothing, the certificate is not checked",
    "PreferredVerify": "TLS if it can be had, the certificate is checked and the result recorded",
    "RequiredVerify": "verified TLS or nothing",
    "RequiredVerifyHostedDomains": "verified TLS or nothing; the name of the route's or MX host counts too",
}
"""What each mode asks for."""


def meaning(event: Event) -> str:
    """What `event` means for people, and what they can do."""
    return _MEANING[event]
