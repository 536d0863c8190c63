"""What a manifest may say beyond the shape of its fields: rules for the API server and for folders alike.

On a cluster the rules are part of the CRDs, as CEL (`crd` puts them there). `letterlock up` and `--dir` have
no API server: they call `parse` and `problems`, which refuse the same manifests with the same words.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

from letterlock_api.kinds import AnyResource
from letterlock_api.rules import calists, certificates, destinationcontrols, listeners, mailgateways
from letterlock_api.rules.lists import repeated
from letterlock_api.rules.manifests import parse
from letterlock_api.rules.rule import Rule, Transition, values_at

__all__ = ["RULES", "TRANSITIONS", "parse", "problems"]

RULES: Final[dict[str, tuple[Rule[Any], ...]]] = {
    "MailGateway": mailgateways.RULES,
    "Certificate": certificates.RULES,
    "Listener": listeners.RULES,
    "DestinationControl": destinationcontrols.RULES,
    "CAList": calists.RULES,
}
TRANSITIONS: Final[dict[str, tuple[Transition[Any], ...]]] = {"MailGateway": mailgateways.TRANSITIONS}


def problems(resource: AnyResource, before: AnyResource | None = None) -> list[str]:
    """What is wrong with a resource that the models have taken, one line each: `spec.tls: …`; empty: nothing.

    `before` is the resource as it was, for what may never change; None: it is new.
    """
    found = chain(repeated(resource), _broken(resource), _changed(resource, before) if before else ())
    return [f"{path}: {message}" for path, message in found]


def _broken(resource: AnyResource) -> Iterator[tuple[str, str]]:
    for rule in RULES[resource.kind]:
        for path, value in values_at(resource, rule.at):
            if not rule.holds(value):
                yield path or "metadata.name", rule.message


def _changed(resource: AnyResource, before: AnyResource) -> Iterator[tuple[str, str]]:
    for rule in TRANSITIONS.get(resource.kind, ()):
        old = dict(values_at(before, rule.at))
        for path, value in values_at(resource, rule.at):
            if path in old and not rule.holds(value, old[path]):
                yield path, rule.message
