"""No listener relays for a stranger because of something that was left out (L7, L8): every combination.

Then over sockets. From the manifest on: decided as the operator does, run as a member does.
"""

import asyncio
import ipaddress
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from letterlock_api.listener import Listener, ListenerSpec
from letterlock_gateway.receive.actions import Ask
from letterlock_gateway.receive.limits import Limits, Quota
from letterlock_gateway.receive.session import Session
from letterlock_gateway.receive.terms import Terms, compile_listener
from letterlock_gateway.receive.trace import TLSDetails
from letterlock_gateway.running import RunningSet
from letterlock_operator.decide import decide
from letterlock_operator.plan import Mount
from tests.decide import builders
from tests.gateway import manifested
from tests.gateway.receiving import Client, Receiving, receiving
from tests.harness import omissions
from tests.harness.swaks import swaks
from tests.mail.clients import unverified

STRANGER: Final = "127.0.0.2"
BALANCER: Final = "127.0.0.99"
GATEWAY: Final = builders.gateway(
    hostname="mx.here.example",
    postmaster="pm@here.example",
    ldap=[{"name": "people", "servers": ["127.0.0.1:9"], "baseDN": "dc=x", "tls": "None"}],
)


@dataclass(frozen=True)
class Opened:
    """A listener that a manifest leads to."""

    spec: ListenerSpec
    mount: Mount

    def running(self, port: int = 2525) -> RunningSet:
        """As members run it, on `port`."""
        return manifested.running(self.mount, port)


@cache
def opened() -> tuple[Opened, ...]:
    """All listeners that differ in anything; those that are refused as a whole (OpenRelay) are not opened."""
    demo, _ = builders.settled(GATEWAY, builders.listener(defaultPolicy={"tls": {"mode": "Preferred"}}))
    specs = {
        one.spec.model_dump_json(): one
        for one in (
            Listener.model_validate({"metadata": builders.metadata("public"), "spec": {"port": 2525, **spec}})
            for spec in omissions.specs()
        )
    }
    assert len(specs) > 3000
    found: dict[str, Opened] = {}
    for one in specs.values():
        plan = decide(builders.world(GATEWAY, one, secrets=demo.secrets), builders.NOW)
        mount = plan.mounts["default"]
        if mount.snapshot.listeners:
            found[mount.snapshot.listeners[0].model_dump_json()] = Opened(one.spec, mount)
    return tuple(found.values())


def _sessions(terms: Terms) -> Iterator[Session]:
    """In clear, and where TLS may be had, under it; without a client certificate."""
    for tls in (None, TLSDetails("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)):
        if tls is not None and terms.context is None:
            continue
        made = Session(terms, Quota(Limits(lambda: 0.0), STRANGER), tls=tls)
        made.greet()
        made.feed(b"EHLO stranger.example\r\n")
        yield made


def _taken(one: Session, recipient: str) -> bool:
    """Whether the session takes the recipient, or would if a directory said yes."""
    one.out.clear()
    one.feed(b"MAIL FROM:<a@b.example>\r\n")
    one.feed(f"RCPT TO:{recipient}\r\n".encode())
    return one.accepted > 0 or isinstance(one.action, Ask)


def test_no_combination_relays_for_a_stranger() -> None:
    """Pure. Each recipient in a session of its own, so that none hides behind the end of another."""
    tried = own = 0
    seen: set[str] = set()
    for case in opened():
        how = _treatment(case)
        if how in seen:
            continue
        seen.add(how)
        running = case.running()
        [listener] = [compile_listener(running, one) for one in running.listeners.values()]
        match = listener.access.match(ipaddress.ip_address(STRANGER), [])
        assert match is not None, case.spec
        for name in {match.policy, "CHECK"}:
            terms = listener.by_policy[name]
            refused = terms.policy.behavior in ("Reject", "TCPRefuse")
            asks = terms.policy.client_certificate == "Required"
            assert terms.policy.behavior != "Relay" or asks, case.spec
            if terms.relay:  # the handshake, or the reply after it, turns those without the certificate away
                assert terms.policy.tls_mode == "Required" or listener.implicit_tls
                assert terms.policy.client_names
                continue
            for recipient in omissions.FOREIGN if terms.takes_mail else omissions.FOREIGN[:1]:
                for session in _sessions(terms):
                    tried += 1
                    assert not _taken(session, recipient), (recipient, case.spec)
            for session in _sessions(terms):
                own += _taken(session, f"<u@{omissions.OWN}>") and not refused
    assert tried > 1000
    assert own > 10, "the sessions take what they shall take: the test sees a yes where there is one"


def _treatment(case: Opened) -> str:
    """All that a stranger's session depends on."""
    [one] = case.mount.snapshot.listeners
    fields = one.model_dump(mode="json", exclude={"groups", "policies", "proxy_from", "max_concurrency"})
    policies = {policy.name: policy.model_dump(mode="json") for policy in one.policies}
    everybody = next(group for group in one.groups if "ALL" in group.senders)
    return json.dumps([fields, policies[everybody.policy], policies[one.groups[-1].policy]])


async def _answers(client: Client) -> list[str]:
    """What the stranger is told of each foreign recipient, and of one of ours; empty: it may not even ask."""
    said: list[str] = []
    if (await client.ask("EHLO stranger.example"))[:3] != "250":
        return []
    for recipient in (*omissions.FOREIGN, f"<u@{omissions.OWN}>"):
        client.writer.write(f"RSET\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:{recipient}\r\n".encode())
        answers = [await client.reply() for _ in range(3)]
        if any(answer[:3] in ("", "421") for answer in answers):  # it has had enough of us
            break
        said.append(answers[2])
    return said


async def _tried(world: Receiving, source: str, header: bytes, *, smtps: bool) -> list[str]:
    said: list[str] = []
    for tls in [True] if smtps else [False, True]:
        client = await Client.connect(world.port, source=source)
        try:
            client.writer.write(header)
            if smtps:
                await client.writer.start_tls(unverified(), server_hostname="mx.here.example")
            if (await client.reply())[:3] == "220":
                if tls and not smtps:
                    if "STARTTLS" not in await client.ask("EHLO stranger.example"):
                        continue
                    await client.tls(unverified())
                said += await _answers(client)
        except OSError:  # refused, or no handshake without a certificate
            assert not said or tls
        finally:
            client.writer.transport.abort()  # after a failed handshake a writer would wait for its end for ever
    return said


def _representative() -> dict[str, Opened]:
    """One listener for each way in which a stranger is treated: type, policy, recipients, balancer, directory, TLS."""
    found: dict[str, Opened] = {}
    for case in opened():
        [one] = case.mount.snapshot.listeners
        last = next(policy for policy in one.policies if policy.name == one.groups[-1].policy)
        words = (one.type, one.protocol, last.behavior, last.tls_mode, bool(one.proxy_from), len(one.groups))
        if last.behavior == "Accept":
            accepts = [rule.accept for rule in one.recipients]
            words = (*words, accepts, one.query is not None, one.default_domain)
        found.setdefault(json.dumps(words), case)
    return found


async def test_over_sockets_neither(tmp_path: Path) -> None:
    """From a stranger's address, in clear and under TLS, straight, and through a listed balancer."""
    own = 0
    async with receiving(tmp_path) as world:
        for words, case in _representative().items():
            [state] = await world.reception.apply(case.running(world.port))
            assert state.listening, state.problem
            smtps = case.spec.protocol == "SMTPS"
            ways = [(STRANGER, b"")]
            if case.spec.proxy_protocol is not None:
                ways += [
                    (BALANCER, b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 25\r\n"),
                    (BALANCER, b"PROXY UNKNOWN\r\n"),
                ]
            for source, header in ways:
                said = await _tried(world, source, header, smtps=smtps)
                good = [answer for answer in said if not answer.startswith("5")]
                assert all(answer.startswith(("250 2.1.5", "451 4.4.3")) for answer in good), (words, said)
                # Of ours there is one a round; of the others none may be among them.
                assert len(good) <= 2, (words, said)
                own += len(good)
                for answer in said[: len(omissions.FOREIGN)]:
                    assert answer.startswith("5"), (words, said)
    assert own > 10


@pytest.mark.parametrize("kind", ["Public", "Private"])
@pytest.mark.parametrize(
    "spec", [{}, {"recipients": [{"match": ["here.example"]}]}], ids=["bare", "recipients"]
)
async def test_swaks_finds_no_way_through(tmp_path: Path, kind: str, spec: dict[str, Any]) -> None:
    routes = ("u@elsewhere.example", "u%elsewhere.example@here.example", "@here.example:u@elsewhere.example")
    async with receiving(tmp_path) as world:
        await world.reception.apply(manifested.from_manifest(world.port, type=kind, **spec))
        for to in routes:
            options = ["--local-interface", STRANGER]
            seen = await asyncio.to_thread(swaks, world.port, to=to, tls=False, options=options)
            assert not seen.accepted, seen.text
            assert "250 2.0.0 Ok: queued" not in seen.text
        assert await world.stored() == []
