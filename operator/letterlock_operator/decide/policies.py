"""Mail-flow policies: each falls back to the default policy, field by field, and that to the built-in values."""

from typing import Final

from letterlock_api.listener import (
    Behavior,
    ClientCertificates,
    ListenerSpec,
    PolicyFields,
    ReceptionTLS,
)
from letterlock_api.snapshot import AccessGroup, ReceptionPolicy

# In capitals, which no user's policy name has.
DEFAULT: Final = "DEFAULT"
REFUSED: Final = "REFUSED"
ALL: Final = "ALL"
_BUILT_IN: Final = ReceptionPolicy(name=DEFAULT, behavior="Accept")


def merge(spec: ListenerSpec) -> list[ReceptionPolicy]:
    """All policies of the listener, filled in: DEFAULT, the named ones, and REFUSED, by which Private listeners end."""
    base = spec.default_policy
    behavior: Behavior = base.behavior or ("Accept" if spec.type == "Public" else "Relay")
    named = {one.name: one for one in spec.mail_flow_policies}
    made = [_filled(DEFAULT, base, base, behavior)]
    made += [_filled(name, one, base, behavior) for name, one in sorted(named.items())]
    if spec.type == "Private":
        made.append(_filled(REFUSED, base, base, behavior).model_copy(update={"behavior": "Reject"}))
    return made


def groups(spec: ListenerSpec) -> list[AccessGroup]:
    """The host access table, which always ends in a row for everybody: never an open relay by omission (L7)."""
    rows = [
        AccessGroup(name=one.name, senders=list(one.senders), policy=one.policy) for one in spec.sender_groups
    ]
    if spec.type == "Private":
        return [*rows, AccessGroup(name=ALL, senders=[ALL], policy=REFUSED)]
    return [*rows, AccessGroup(name=ALL, senders=[ALL], policy=DEFAULT)]


def _filled(name: str, own: PolicyFields, base: PolicyFields, behavior: Behavior) -> ReceptionPolicy:
    tls, below = own.tls, base.tls
    certificates = tls.client_certificates or below.client_certificates or ClientCertificates()
    return ReceptionPolicy(
        name=name,
        behavior=own.behavior or behavior,
        tls_mode=tls.mode or below.mode or _BUILT_IN.tls_mode,
        min_version=tls.min_version or below.min_version or _BUILT_IN.min_version,
        ciphers=tls.ciphers or below.ciphers,
        client_certificate=tls.client_certificate or below.client_certificate or _BUILT_IN.client_certificate,
        client_ca_lists=sorted(one.name for one in certificates.ca_list_refs),
        client_names=list(certificates.names),
        client_fingerprints=list(certificates.fingerprints),
        required_for_senders=list(_senders(tls, below)),
        max_message_size=own.max_message_size or base.max_message_size or _BUILT_IN.max_message_size,
        max_messages_per_connection=own.max_messages_per_connection
        or base.max_messages_per_connection
        or _BUILT_IN.max_messages_per_connection,
        max_recipients_per_message=own.max_recipients_per_message
        or base.max_recipients_per_message
        or _BUILT_IN.max_recipients_per_message,
        max_connections_per_host=own.max_connections_per_host
        or base.max_connections_per_host
        or _BUILT_IN.max_connections_per_host,
        max_recipients_per_hour=own.max_recipients_per_hour or base.max_recipients_per_hour,
        banner=own.banner or base.banner or "",
        reject_text=own.reject_text or base.reject_text or "",
    )


def _senders(own: ReceptionTLS, base: ReceptionTLS) -> list[str]:
    return own.required_for_senders or base.required_for_senders
