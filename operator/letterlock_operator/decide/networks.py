"""Ports of members, and who may reach them and whom they may reach: the NetworkPolicy of a gateway. Pure.

Called by `objects`. Mail may come from anywhere; it may go to all pods, and to anywhere else by the ports that the
configuration names and by no others: so members, which hold keys and talk to strangers, do not reach the API server or
what else listens on nodes. Pods are free because policies see the port behind a Service, which nobody here knows.
A policy that changes restarts nobody.
"""

from collections.abc import Iterable
from typing import Any, Final

from letterlock_api.mailgateway import MailGateway
from letterlock_api.snapshot import Snapshot
from letterlock_api.state import HEALTH_PORT, STATE_PORT
from letterlock_operator import names

type Manifest = dict[str, Any]

LOW_PORT_OFFSET: Final = 10000
_PRIVILEGED: Final = 1024
_SMTP: Final = 25
_DNS: Final = 53
# LDAP, with StartTLS or without, and LDAPS: where `servers` names no port.
_LDAP, _LDAPS = 389, 636


def target_port(port: int) -> int:
    """The port that a pod binds for a listener's port: a pod may not bind those below 1024."""
    return port + LOW_PORT_OFFSET if port < _PRIVILEGED else port


def of_members(gateway: MailGateway, snapshot: Snapshot, operator_namespace: str) -> Manifest:
    """The spec of the policy for all members of the gateway, when they run `snapshot`.

    `operator_namespace`: where the operator's pods run; empty: it runs outside, at an address that nobody knows.
    """
    members = {"podSelector": {"matchLabels": dict(names.labels(gateway.name))}}
    served = {target_port(one.port) for one in snapshot.listeners}
    if (https := gateway.spec.management.https) is not None:
        served.add(target_port(https.port))
    state: Manifest = {"ports": _tcp([STATE_PORT])}
    if operator_namespace:
        operator: Manifest = {
            "namespaceSelector": {
                "matchLabels": {"kubernetes.io/metadata.name": operator_namespace},
            },
            "podSelector": {
                "matchLabels": {
                    "app.kubernetes.io/name": "letterlock",
                    "app.kubernetes.io/component": "operator",
                }
            },
        }
        # Members hand mail to each other when one of them goes.
        state["from"] = [operator, members]
    return {
        "podSelector": members["podSelector"],
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            # The kubelet's address is not known here.
            {"ports": _tcp([*served, HEALTH_PORT])},
            state,
        ],
        "egress": [
            {"to": [{"namespaceSelector": {}}]},
            {"ports": [{"port": port, "protocol": "UDP"} for port in sorted(_resolvers(snapshot))]},
            {"ports": _tcp(_outgoing(snapshot))},
        ],
    }


def _tcp(ports: Iterable[int]) -> list[Manifest]:
    return [{"port": port, "protocol": "TCP"} for port in sorted(set(ports))]


def _outgoing(snapshot: Snapshot) -> set[int]:
    found = {_SMTP, *_resolvers(snapshot)}
    found.update(hop.port for one in snapshot.destinations for hop in one.routes)
    for directory in snapshot.directories:
        usual = _LDAPS if directory.tls == "LDAPS" else _LDAP
        found.update(_port(server, usual) for server in directory.servers)
    return found


def _resolvers(snapshot: Snapshot) -> set[int]:
    # The system's are asked for routes and directories, whatever `resolvers` says.
    return {_DNS, *(_port(server, _DNS) for server in snapshot.delivery.resolvers)}


def _port(server: str, usual: int) -> int:
    """The port of `host`, `host:port`, `address`, `[address]:port`."""
    _, colon, port = server.rpartition(":")
    written = colon and port.isdecimal() and (server.count(":") == 1 or "]:" in server)
    return int(port) if written else usual
