"""Judges a Certificate before it is written, by the rules of the API server and the decisions of the operator.

Called by the commands that write Certificates: what would be refused later is refused at once.
"""

import sys
from datetime import UTC, datetime

from letterlock_cli.failures import CommandError
from letterlock_cli.objects import Object
from letterlock_cli.targets import Target, check


def check_certificate(there: Target, wanted: Object) -> None:
    """Raise CommandError where it would be refused; what is to be warned of goes to stderr."""
    from letterlock_api import rules, strength
    from letterlock_api.certificate import Certificate
    from letterlock_api.conditions import Type
    from letterlock_api.mailgateway import MailGateway
    from letterlock_operator.decide import certificates
    from letterlock_operator.world import World

    check(wanted)
    certificate = rules.parse({key: one for key, one in wanted.items() if key != "status"})
    assert isinstance(certificate, Certificate)  # noqa: S101 - the caller's kind
    gateway = certificate.spec.gateway_ref.name
    found = _gateway(there, gateway)
    try:
        parsed = MailGateway.model_validate({key: found[key] for key in ("metadata", "spec") if key in found})
    except ValueError as error:
        raise CommandError(f"MailGateway {gateway} cannot be read: {' '.join(str(error).split())}") from error
    world = World("", gateways={gateway: parsed}, certificates={certificate.name: certificate})
    judged = certificates.judge(certificate, world, datetime.now(UTC)).accepted
    if not judged.holds:
        raise CommandError(f"{judged.reason}: {judged.message}")
    if certificate.spec.pkcs12 is None and certificate.spec.secret_ref is None:
        size = certificate.spec.private_key.size
        weak = strength.weak_key(certificate.spec.private_key.algorithm, size) if size else ""
        if weak:
            print(f"warning: Certificate/{certificate.name} {Type.WEAK_KEY}: {weak}", file=sys.stderr)


def _gateway(there: Target, name: str) -> Object:
    stand_in: Object = {"metadata": {"name": name}, "spec": {}}
    try:
        found = there.find("MailGateway", name)
    except CommandError:
        return stand_in  # who may write certificates need not be allowed to read gateways
    if found is None:
        print(f"warning: there is no MailGateway {name} yet: nothing is made before it is", file=sys.stderr)
    return found or stand_in
