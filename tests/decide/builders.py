"""Worlds and resources for the tests of decisions: each builder gives something valid, and takes what it is about."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import trustme

from letterlock_api.calist import CAList
from letterlock_api.certificate import Certificate, CertificateStatus
from letterlock_api.conditions import Condition
from letterlock_api.destinationcontrol import DestinationControl
from letterlock_api.listener import Listener
from letterlock_api.mailgateway import MailGateway
from letterlock_api.state import ListenerState, MemberState
from letterlock_operator import orders
from letterlock_operator.decide import decide
from letterlock_operator.plan import Export, Issue, Plan
from letterlock_operator.world import Keep, Member, Unreadable, World

NOW = datetime.now(UTC).replace(microsecond=0)


def metadata(name: str, age: int = 0) -> dict[str, Any]:
    return {
        "name": name,
        "uid": f"uid-{name}",
        "generation": 3,
        "creationTimestamp": NOW - timedelta(days=age),
    }


def gateway(name: str = "default", **spec: Any) -> MailGateway:
    return MailGateway.model_validate({"metadata": metadata(name), "spec": spec})


def certificate(name: str = "mx", age: int = 0, **spec: Any) -> Certificate:
    given = {"level": "Cluster", "dnsNames": [f"{name}.example.com"], "privateKey": {"algorithm": "ECDSA"}}
    return Certificate.model_validate({"metadata": metadata(name, age), "spec": {**given, **spec}})


def listener(name: str = "public", age: int = 0, **spec: Any) -> Listener:
    return Listener.model_validate({"metadata": metadata(name, age), "spec": {"port": 2525, **spec}})


def destination(name: str, *domains: str, age: int = 0, **spec: Any) -> DestinationControl:
    body = {"metadata": metadata(name, age), "spec": {"domains": list(domains), **spec}}
    return DestinationControl.model_validate(body)


def ca_list(name: str, **spec: Any) -> CAList:
    return CAList.model_validate({"metadata": metadata(name), "spec": spec})


@cache
def authority() -> trustme.CA:
    return trustme.CA()


def ca_pem() -> str:
    return authority().cert_pem.bytes().decode()


def tls_secret(name: str, *names: str) -> Keep:
    made = authority().issue_cert(*names)
    chain = b"".join(one.bytes() for one in made.cert_chain_pems)
    data = {"tls.key": made.private_key_pem.bytes(), "tls.crt": chain}
    return Keep(name, data, type="kubernetes.io/tls", resource_version="1")


def world(*resources: Any, secrets: Mapping[str, Any] | None = None, **more: Any) -> World:
    by_kind: dict[str, dict[str, Any]] = {}
    for one in resources:
        by_kind.setdefault(one.kind, {})[one.name] = one
    return World(
        namespace="default",
        gateways=by_kind.get("MailGateway", {}),
        certificates=by_kind.get("Certificate", {}),
        listeners=by_kind.get("Listener", {}),
        destinations=by_kind.get("DestinationControl", {}),
        ca_lists=by_kind.get("CAList", {}),
        secrets=secrets or {},
        **more,
    )


def issued(
    plan: Plan,
    moment: datetime = NOW,
    revision: str = "1",
    before: Mapping[str, Keep | Unreadable] | None = None,
) -> dict[str, Keep]:
    """The Secrets that the plan orders, made. `before`: as they are."""
    return {
        order.secret: Keep(
            order.secret,
            orders.data(order, _kept(before, order.secret), moment),
            ours=True,
            owner=order.owner,
            resource_version=revision,
            inputs=order.inputs if isinstance(order, Export) else "",
        )
        for order in plan.issues
    }


def certificate_status(plan: Plan, name: str = "mx") -> CertificateStatus:
    found = plan.statuses["Certificate", name]
    assert isinstance(found, CertificateStatus)
    return found


def issue(plan: Plan) -> Issue:
    """The one order of the plan: to make a certificate."""
    (order,) = plan.issues
    assert isinstance(order, Issue)
    return order


def _kept(before: Mapping[str, Keep | Unreadable] | None, name: str) -> Keep | None:
    found = (before or {}).get(name)
    return found if isinstance(found, Keep) else None


def lived(
    *resources: Any, secrets: Mapping[str, Any] | None = None, moment: datetime = NOW, **more: Any
) -> tuple[dict[str, Any], Plan]:
    """Secrets and plan once nothing is left to do at `moment`: every order carried out, one after the other."""
    there = dict(secrets or {})
    for turn in range(10):
        plan = decide(world(*resources, secrets=there, **more), moment)
        if not plan.issues and not plan.retired:
            return there, plan
        there |= issued(plan, moment, f"{moment.timestamp():.0f}-{turn}", there)
        there = {
            name: keep for name, keep in there.items() if name not in {one.secret for one in plan.retired}
        }
    raise AssertionError("it never comes to rest")


def settled(*resources: Any, **more: Any) -> tuple[World, Plan]:
    """The world after what it orders has been made, and what is decided then."""
    first = world(*resources, **more)
    secrets = {**first.secrets, **issued(decide(first, NOW))}
    second = world(*resources, **{**more, "secrets": secrets})
    return second, decide(second, NOW)


def running(plan: Plan, name: str = "default-0", gateway_name: str = "default", **state: Any) -> Member:
    """A Ready member that runs what the plan wants."""
    snapshot = plan.mounts[gateway_name].snapshot
    given: dict[str, Any] = {
        "member": name,
        "snapshot": snapshot.hash(),
        "digests": snapshot.digests,
        "listeners": [ListenerState(name=one.name, listening=True) for one in snapshot.listeners],
    }
    return Member(name, ready=True, state=MemberState(**{**given, **state}))


def condition(plan: Plan, kind: str, name: str, of: str) -> Condition:
    found = [one for one in plan.statuses[kind, name].conditions if one.type == of]
    assert found, f"{kind}/{name} has no condition {of}"
    return found[0]


def verdict(plan: Plan, kind: str, name: str, of: str) -> tuple[str, str]:
    found = condition(plan, kind, name, of)
    return found.status, found.reason
