"""Which Certificates can be accepted: what is wrong with a wish as it stands. Pure; used by `certificates`."""

from typing import Final

from letterlock_api.certificate import CertificateSpec, Level
from letterlock_api.conditions import Reason
from letterlock_operator.decide import domains, placeholders
from letterlock_operator.decide.verdicts import Finding
from letterlock_operator.world import World

# ub-common-name: letters there, but whoever writes certificates here counts bytes.
_LONGEST_COMMON_NAME: Final = 64


def problem(spec: CertificateSpec, level: Level, world: World) -> Finding | None:
    """The first thing that is wrong with it; None: nothing is."""
    return next((found for rule in _RULES if (found := rule(spec, level, world)) is not None), None)


def _gateway_missing(spec: CertificateSpec, _: Level, world: World) -> Finding | None:
    if spec.gateway_ref.name in world.gateways:
        return None
    return Reason.GATEWAY_NOT_FOUND, f"there is no MailGateway {spec.gateway_ref.name} in this namespace"


def _no_name(spec: CertificateSpec, _: Level, __: World) -> Finding | None:
    if spec.brought or spec.subject.common_name or spec.dns_names:
        return None
    return Reason.INVALID, "set subject.commonName or dnsNames: a certificate needs a name"


def _not_cluster_capable(spec: CertificateSpec, level: Level, _: World) -> Finding | None:
    """Judged on what the user gave, before the common name is added (C9)."""
    wildcard = "*" in (spec.subject.common_name or "")
    if level == "Machine" or spec.brought or spec.dns_names or wildcard:
        return None
    return (
        Reason.NOT_CLUSTER_CAPABLE,
        "only a wildcard certificate or one with dnsNames can serve all members: add dnsNames, or set level: Machine",
    )


def _placeholder_at_cluster(spec: CertificateSpec, level: Level, _: World) -> Finding | None:
    if level == "Cluster" and any(
        map(placeholders.stand_in, [*spec.dns_names, *spec.subject.given.values()])
    ):
        return (
            Reason.INVALID,
            "{member} and {ordinal} stand for one member: use them with level: Machine only",
        )
    return None


def _one_import_for_several(spec: CertificateSpec, level: Level, world: World) -> Finding | None:
    """A certificate that is brought along for each member needs a name for each of them."""
    if level == "Cluster" or not spec.brought or world.gateways[spec.gateway_ref.name].spec.replicas < 2:
        return None
    texts = [spec.secret_ref.name] if spec.secret_ref else []
    if spec.pkcs12:
        texts += [spec.pkcs12.secret_key_ref.name, spec.pkcs12.secret_key_ref.key]
    if any(map(placeholders.stand_in, texts)):
        return None
    text = "one Secret for several members at Machine level: put {member} or {ordinal} into its name"
    return Reason.INVALID, f"{text}, or set level: Cluster"


def _name_that_cannot_be(spec: CertificateSpec, level: Level, world: World) -> Finding | None:
    """Names of hosts with the letters that IDNA takes, and a common name that fits, for every member."""
    if spec.brought:
        return None
    gateway = spec.gateway_ref.name
    for member in [""] if level == "Cluster" else world.names_of_members(gateway):
        common = placeholders.filled(spec.subject.common_name or "", member)
        if len(common.encode()) > _LONGEST_COMMON_NAME:
            text = f"subject.commonName {common} is longer than {_LONGEST_COMMON_NAME} bytes (X.520)"
            return Reason.INVALID, f"{text}: put it into dnsNames alone"
        for name in [*spec.dns_names, spec.subject.common_name or ""]:
            try:
                domains.in_certificates(placeholders.filled(name, member))
            except ValueError as error:
                return Reason.INVALID, f"{error}: correct it"
    return None


_RULES: Final = (
    _gateway_missing,  # make sure that somebody uses it
    _no_name,  # make sure that there is something to certify
    _not_cluster_capable,  # make sure that one certificate may serve all members
    _placeholder_at_cluster,  # make sure that placeholders can be replaced
    _name_that_cannot_be,  # make sure that the names can stand in a certificate
    _one_import_for_several,  # make sure that members do not share what is one member's
)
