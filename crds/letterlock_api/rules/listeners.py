"""Rules for Listeners. Policies fall back to the default policy, so most rules look at both."""

from collections.abc import Callable
from typing import Any, Final

from letterlock_api.base import MAX_SERVICE_OWNER_NAME
from letterlock_api.listener import (
    ClientCertificates,
    Listener,
    ListenerSpec,
    MailFlowPolicy,
    PolicyFields,
)
from letterlock_api.rules.names import service_owner_name
from letterlock_api.rules.rule import Rule

_NO_POLICIES: Final = "!has(self.mailFlowPolicies)"
_EVERY: Final = f"{_NO_POLICIES} || self.mailFlowPolicies.all"
_DEFAULT: Final = "self.?defaultPolicy.?tls"
# Of policy `p`, with what it falls back to.
_MODE: Final = f"p.?tls.?mode.or({_DEFAULT}.?mode).orValue('No')"
_ASKED: Final = f"p.?tls.?clientCertificate.or({_DEFAULT}.?clientCertificate).orValue('None')"
_BEHAVIOR: Final = "p.?behavior.or(self.?defaultPolicy.?behavior).orValue('Accept')"


def _mode(spec: ListenerSpec, policy: PolicyFields) -> str:
    return policy.tls.mode or spec.default_policy.tls.mode or "No"


def _asked(spec: ListenerSpec, policy: PolicyFields) -> str:
    return policy.tls.client_certificate or spec.default_policy.tls.client_certificate or "None"


def _every(holds: Callable[[ListenerSpec, MailFlowPolicy], bool]) -> Callable[[ListenerSpec], bool]:
    return lambda spec: all(holds(spec, policy) for policy in spec.mail_flow_policies)


def _policies_exist(spec: ListenerSpec) -> bool:
    names = {policy.name for policy in spec.mail_flow_policies}
    return all(group.policy in names for group in spec.sender_groups)


def _default_can_ask(spec: ListenerSpec) -> bool:
    """Whether the default policy's client certificate is asked for wherever it is inherited."""
    tls = spec.default_policy.tls
    if tls.client_certificate in {None, "None"} or tls.mode not in {None, "No"}:
        return True
    return bool(spec.mail_flow_policies) and all(p.tls.mode for p in spec.mail_flow_policies)


def _narrows(chosen: ClientCertificates | None) -> bool:
    return chosen is not None and bool(chosen.names or chosen.fingerprints or chosen.ca_list_refs)


def _is_safe(spec: ListenerSpec, policy: PolicyFields) -> bool:
    """Whether everybody may use the policy: it does not relay, or only for known client certificates."""
    if (policy.behavior or spec.default_policy.behavior) != "Relay":
        return True
    encrypted = spec.protocol == "SMTPS" or _mode(spec, policy) == "Required"
    chosen = policy.tls.client_certificates or spec.default_policy.tls.client_certificates
    return encrypted and _asked(spec, policy) == "Required" and _narrows(chosen)


def _is_closed(spec: ListenerSpec) -> bool:
    open_policies = {p.name for p in spec.mail_flow_policies if not _is_safe(spec, p)}
    everybody = [
        group for group in spec.sender_groups if any(s == "ALL" or s.endswith("/0") for s in group.senders)
    ]
    return spec.type != "Public" or not any(group.policy in open_policies for group in everybody)


def _cel_narrows(policy: str) -> str:
    lists = [f"{policy}.tls.clientCertificates.{name}" for name in ("names", "fingerprints", "caListRefs")]
    return " || ".join(f"has({entries}) && {entries}.size() > 0" for entries in lists)


_NARROWED: Final = (
    f"has(p.tls) && has(p.tls.clientCertificates) ? {_cel_narrows('p')} :"
    " has(self.defaultPolicy) && has(self.defaultPolicy.tls) &&"
    f" has(self.defaultPolicy.tls.clientCertificates) && ({_cel_narrows('self.defaultPolicy')})"
)
_SAFE: Final = (
    f"{_BEHAVIOR} != 'Relay' ||"
    f" ((self.protocol == 'SMTPS' || {_MODE} == 'Required') && {_ASKED} == 'Required' && ({_NARROWED}))"
)

RULES: Final[tuple[Rule[Any], ...]] = (
    service_owner_name(Listener, MAX_SERVICE_OWNER_NAME),
    Rule[ListenerSpec](
        "spec",
        "!has(self.senderGroups) || self.senderGroups.all(g,"
        " has(self.mailFlowPolicies) && self.mailFlowPolicies.exists(p, p.name == g.policy))",
        "a sender group names a policy that is not in mailFlowPolicies: add the policy or correct the name"
        " (UnknownPolicy)",
        _policies_exist,
    ),
    Rule[ListenerSpec](
        "spec",
        f"{_EVERY}(p, !(p.?tls.?clientCertificate.orValue('None') in ['Optional', 'Required']) ||"
        f" {_MODE} != 'No')",
        "a policy asks for client certificates but does not offer TLS:"
        " set its tls.mode to Preferred or Required",
        _every(
            lambda spec, policy: (
                policy.tls.client_certificate in {None, "None"} or _mode(spec, policy) != "No"
            )
        ),
    ),
    Rule[ListenerSpec](
        "spec",
        f"!({_DEFAULT}.?clientCertificate.orValue('None') in ['Optional', 'Required']) ||"
        f" {_DEFAULT}.?mode.orValue('No') != 'No' ||"
        " has(self.mailFlowPolicies) && self.mailFlowPolicies.size() > 0 &&"
        " self.mailFlowPolicies.all(p, has(p.tls) && has(p.tls.mode))",
        "defaultPolicy asks for client certificates but does not offer TLS:"
        " set its tls.mode to Preferred or Required",
        _default_can_ask,
    ),
    Rule[ListenerSpec](
        "spec",
        f"{_EVERY}(p, !has(p.tls) || !has(p.tls.clientCertificates) || {_ASKED} != 'None')",
        "a policy says which client certificates count but asks for none:"
        " set its tls.clientCertificate to Optional or Required",
        _every(lambda spec, policy: policy.tls.client_certificates is None or _asked(spec, policy) != "None"),
    ),
    Rule[ListenerSpec](
        "spec",
        f"{_EVERY}(p, !has(p.tls) || !has(p.tls.requiredForSenders) ||"
        " p.tls.requiredForSenders.size() == 0 ||"
        f" {_MODE} != 'No' || self.protocol == 'SMTPS')",
        "a policy demands TLS of some senders (requiredForSenders) but does not offer it:"
        " set its tls.mode to Preferred or Required",
        _every(
            lambda spec, policy: (
                not policy.tls.required_for_senders or _mode(spec, policy) != "No" or spec.protocol == "SMTPS"
            )
        ),
    ),
    Rule[ListenerSpec](
        "spec",
        "self.type != 'Public' || !has(self.senderGroups) || self.senderGroups.all(g,"
        " !g.senders.exists(s, s == 'ALL' || s.endsWith('/0')) ||"
        f" {_EVERY}(p, p.name != g.policy || {_SAFE}))",
        "a Public listener would relay for everybody (OpenRelay): list the senders, or demand a client"
        " certificate (tls.mode and clientCertificate Required, with clientCertificates)",
        _is_closed,
    ),
    Rule[ListenerSpec](
        "spec",
        "self.type != 'Private' || self.?service.?externalTrafficPolicy.orValue('Local') != 'Cluster' ||"
        " has(self.proxyProtocol)",
        "externalTrafficPolicy Cluster hides the clients' addresses, which a Private listener goes by:"
        " use Local, or proxyProtocol",
        lambda spec: (
            spec.type != "Private"
            or spec.service.external_traffic_policy != "Cluster"
            or spec.proxy_protocol is not None
        ),
    ),
    Rule[ListenerSpec](
        "spec",
        "!has(self.domainMap) || self.domainMap.all(m, self.domainMap.exists_one(n, n.from == m.from))",
        "domainMap has two entries for one domain: keep one of them",
        lambda spec: len({entry.from_ for entry in spec.domain_map}) == len(spec.domain_map),
    ),
)
