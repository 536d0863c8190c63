"""Rules for MailGateways."""

from typing import Any, Final

from letterlock_api.base import MAX_SERVICE_OWNER_NAME, parse_duration
from letterlock_api.listener import ClientCertificates
from letterlock_api.mailgateway import LDAPProfile, MailGateway, Retry, Storage
from letterlock_api.rules.names import service_owner_name
from letterlock_api.rules.rule import Rule, Transition


def _schedule_grows(retry: Retry) -> bool:
    initial, longest, end = map(parse_duration, (retry.initial, retry.max, retry.give_up_after))
    return initial.total_seconds() > 0 and initial <= longest and initial <= end


RULES: Final[tuple[Rule[Any], ...]] = (
    service_owner_name(MailGateway, MAX_SERVICE_OWNER_NAME),
    Rule[Retry](
        "spec.delivery.retry",
        "duration(self.initial) > duration('0s') && duration(self.initial) <= duration(self.max)"
        " && duration(self.initial) <= duration(self.giveUpAfter)",
        "initial must be longer than nothing, and no longer than max and giveUpAfter",
        _schedule_grows,
    ),
    Rule[LDAPProfile](
        "spec.ldap[]",
        "!has(self.bindPasswordSecretKeyRef) || self.tls != 'None'",
        "a bind password needs TLS: set tls to LDAPS or StartTLS",
        lambda profile: profile.bind_password_secret_key_ref is None or profile.tls != "None",
    ),
    Rule[LDAPProfile](
        "spec.ldap[]",
        "!has(self.bindPasswordSecretKeyRef) || has(self.bindDN)",
        "a bind password needs somebody who binds: set bindDN",
        lambda profile: profile.bind_password_secret_key_ref is None or profile.bind_dn is not None,
    ),
    Rule[LDAPProfile](
        "spec.ldap[]",
        "!has(self.certificateRef) || self.tls != 'None'",
        "a client certificate needs TLS: set tls to LDAPS or StartTLS",
        lambda profile: profile.certificate_ref is None or profile.tls != "None",
    ),
    Rule[ClientCertificates](
        "spec.management.clientCertificates",
        "(has(self.names) && self.names.size() > 0) || (has(self.fingerprints) && self.fingerprints.size() > 0)",
        "say whose certificates sign in: set names or fingerprints (a CA alone signs for anybody)",
        lambda chosen: bool(chosen.names or chosen.fingerprints),
    ),
)
TRANSITIONS: Final[tuple[Transition[Any], ...]] = (
    Transition[Storage](
        "spec.storage",
        "self == oldSelf",
        "storage cannot change, as volumes cannot: make another MailGateway and move the listeners to it",
        lambda storage, before: storage == before,
    ),
)
