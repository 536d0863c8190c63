"""The members' NetworkPolicy: what its content is. Enforcing it is the network plugin's, and not shown here."""

from typing import Any

import pytest

from letterlock_api.state import HEALTH_PORT, STATE_PORT
from letterlock_operator.decide import decide
from letterlock_operator.decide.objects import Pods, objects
from tests.decide.builders import NOW, destination, gateway, listener, world

type Policy = dict[str, Any]


def policy(*resources: Any, operator_namespace: str = "system") -> Policy:
    given = world(*resources)
    made = objects(given, decide(given, NOW), Pods("image:1", operator_namespace=operator_namespace))
    (found,) = [one for one in made if one["kind"] == "NetworkPolicy"]
    assert found["metadata"]["name"] == "default-members"
    return found["spec"]


def ports(rule: Policy) -> set[int]:
    return {one["port"] for one in rule["ports"]}


def anywhere(found: Policy) -> set[int]:
    """TCP ports that members reach outside of pods."""
    rules = [one for one in found["egress"] if "to" not in one]
    return {one["port"] for rule in rules for one in rule["ports"] if one["protocol"] == "TCP"}


def test_mail_comes_from_anywhere_and_the_state_is_for_operator_and_members():
    found = policy(gateway(), listener(port=25))
    mail, state = found["ingress"]
    assert "from" not in mail
    assert ports(mail) == {10025, HEALTH_PORT}
    assert ports(state) == {STATE_PORT}
    operator, members = state["from"]
    assert operator["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "system"}
    assert operator["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "operator"
    assert members == {"podSelector": found["podSelector"]}


def test_an_operator_outside_the_cluster_asks_from_an_address_that_nobody_knows():
    _, state = policy(gateway(), operator_namespace="")["ingress"]
    assert "from" not in state


def test_members_reach_pods_mail_and_dns_but_not_the_api_server():
    found = policy(gateway(), listener())
    assert found["policyTypes"] == ["Ingress", "Egress"]
    assert found["egress"][0] == {"to": [{"namespaceSelector": {}}]}
    assert anywhere(found) == {25, 53}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            [destination("a", "a.example", routes=[{"host": "store.example.com", "port": 2525}])],
            {2525},
            id="routes",
        ),
        pytest.param(
            [gateway(delivery={"resolvers": ["192.0.2.1:5300", "[2001:db8::1]:5301"]})],
            {5300, 5301},
            id="resolvers",
        ),
        pytest.param(
            [
                gateway(
                    ldap=[
                        {"name": "a", "servers": ["l.example.com", "m.example.com:1636"], "baseDN": "dc=a"},
                        {"name": "b", "servers": ["n.example.com"], "tls": "StartTLS", "baseDN": "dc=a"},
                    ]
                ),
                listener(acceptQuery={"ldap": "a", "filter": "(mail={a})"}),
                listener("other", port=26, acceptQuery={"ldap": "b", "filter": "(mail={a})"}),
            ],
            {636, 1636, 389},
            id="directories",
        ),
    ],
)
def test_ports_that_the_configuration_names_are_open(given: list[Any], expected: set[int]):
    whole = given if any(one.kind == "MailGateway" for one in given) else [gateway(), *given]
    assert anywhere(policy(*whole)) == {25, 53} | expected
