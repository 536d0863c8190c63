"""Which names count, with a real Postfix and a real Exim: every rule, by MX and by route, from a real resolver.

Each case has an address of its own at the server, with a certificate of its own; all are sent at once, and `letterlock
check` is asked about each. The oracles are the server's mailbox and log.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import uvloop

from letterlock_api.destinationcontrol import LastTLS, NameSource
from letterlock_api.snapshot import Destination, ResolvedTLSMode
from letterlock_gateway.deliver.terms import Timeouts
from letterlock_gateway.manage import checking
from tests.harness import chains, waiting
from tests.harness.certificates import Authority
from tests.harness.chains import Signer
from tests.harness.deliveries import Delivering, delivering, route, until
from tests.harness.exim import Exim
from tests.harness.mounts import destination
from tests.harness.nameservers import NameServers, reverse
from tests.harness.postfix import Postfix

GREETS_AS: Final = "mx.mailbox.example"
type Receiver = Postfix | Exim


@dataclass(frozen=True)
class Case:
    """One certificate at one host. `{n}` in names is the case's number."""

    id: str
    sans: tuple[str, ...] = ()
    common_name: str = "leaf"
    matched: str = ""
    """The reference name that is to match; empty: none does."""
    source: NameSource = "Recipient"
    mode: ResolvedTLSMode = "RequiredVerify"
    domain: str = "foo.c{n}.example"
    names: tuple[str, ...] = ()
    pointers: tuple[str, ...] = ()
    """Reverse names of the host's address."""
    hop: str = "mx"
    """`mx`, `route` (by name), or `address` (a route)."""
    by_sni: bool = False
    """The host has this certificate for its own name only, and another one for everybody else."""


OWN, MX, ROUTE, REVERSE = "foo.c{n}.example", "mx.p{n}.example", "relay.p{n}.example", "reverse.p{n}.example"
HOSTED: Final[ResolvedTLSMode] = "RequiredVerifyHostedDomains"
CASES: Final = (
    Case("a dNSName that is the recipient domain", (OWN,), matched=OWN),
    Case("one of several dNSNames", ("a.example", "*.b.example", OWN), matched=OWN),
    Case("capitals and a dot at the end in the certificate", ("FOO.C{n}.Example.",), matched=OWN),
    Case("a dNSName beside which the common name does not count", ("other.example",), OWN),
    Case("a common name alone", (), OWN, OWN),
    Case("a common name in capitals", (), "Foo.C{n}.EXAMPLE", OWN),
    Case("another common name alone", (), "other.example"),
    Case("a wildcard", ("*.c{n}.example",), matched=OWN),
    Case("a wildcard in the common name", (), "*.c{n}.example", OWN),
    Case("a wildcard for a part of the label", ("f*.c{n}.example",), matched=OWN),
    Case("a wildcard in the middle of the label", ("f*o.c{n}.example",), matched=OWN),
    Case("a wildcard for a part of another label", ("b*.c{n}.example",)),
    Case("a wildcard with one label behind it", ("*.example",), domain="c{n}.example"),
    Case("a wildcard for two labels", ("*.c{n}.example",), domain="bar.foo.c{n}.example"),
    Case("a wildcard for no label", ("*.c{n}.example",), domain="c{n}.example"),
    Case("a wildcard further right", ("foo.*.example",)),
    Case(
        "an A-label",
        ("xn--bcher-kva.c{n}.example",),
        domain="xn--bcher-kva.c{n}.example",
        matched="xn--bcher-kva.c{n}.example",
    ),
    Case(
        "a U-label in the common name",
        (),
        "Bücher.c{n}.example",
        domain="xn--bcher-kva.c{n}.example",
        matched="xn--bcher-kva.c{n}.example",
    ),
    Case(
        "a wildcard for an A-label as a whole",
        ("*.c{n}.example",),
        domain="xn--bcher-kva.c{n}.example",
        matched="xn--bcher-kva.c{n}.example",
    ),
    Case(
        "a wildcard for a part of an A-label", ("xn--b*.c{n}.example",), domain="xn--bcher-kva.c{n}.example"
    ),
    Case("the MX host's name where only the domain counts", (MX,)),
    Case("the route's name where only the domain counts", (ROUTE,), hop="route"),
    Case("the name that the host greets with", (GREETS_AS,)),
    Case(
        "the reverse name in a common name",
        (),
        REVERSE,
        REVERSE,
        "Reverse",
        pointers=("other.example", REVERSE),
    ),
    Case(
        "the reverse name under PreferredVerify",
        (),
        REVERSE,
        REVERSE,
        "Reverse",
        "PreferredVerify",
        pointers=(REVERSE,),
    ),
    Case(
        "a reverse name that does not resolve back", (), "liar.p{n}.example", pointers=("liar.p{n}.example",)
    ),
    Case("a reverse name that resolves to nothing", (), "void.p{n}.example", pointers=("void.p{n}.example",)),
    Case("the reverse name in a dNSName", (REVERSE,), pointers=(REVERSE,)),
    Case("the reverse name for hosted domains", (), REVERSE, mode=HOSTED, pointers=(REVERSE,)),
    Case("hosted: the MX host", (MX,), matched=MX, source="MX", mode=HOSTED),
    Case("hosted: the MX host in a common name", (), MX, MX, "MX", HOSTED),
    Case("hosted: the recipient domain before the MX host", (MX, OWN), matched=OWN, mode=HOSTED),
    Case("hosted: the route's host", (ROUTE,), matched=ROUTE, source="Route", mode=HOSTED, hop="route"),
    Case(
        "hosted: the recipient domain before the route's host",
        (ROUTE, OWN),
        matched=OWN,
        mode=HOSTED,
        hop="route",
    ),
    Case("hosted: the MX host where there is a route", (MX,), mode=HOSTED, hop="route"),
    Case(
        "hosted: the MX host where the route is its address",
        (MX,),
        matched=MX,
        source="MX",
        mode=HOSTED,
        hop="address",
    ),
    Case("hosted: another host", ("other.example",), mode=HOSTED),
    Case(
        "spec.tls.names",
        ("also.example",),
        matched="also.example",
        source="Explicit",
        names=("first.example", "also.example"),
    ),
    Case(
        "spec.tls.names in a common name",
        (),
        "also.example",
        "also.example",
        "Explicit",
        names=("also.example",),
    ),
    Case(
        "spec.tls.names for hosted domains",
        ("also.example",),
        matched="also.example",
        source="Explicit",
        mode=HOSTED,
        names=("also.example",),
    ),
    Case("the recipient domain beside spec.tls.names", (OWN,), names=("also.example",)),
    Case("the MX host beside spec.tls.names", (MX,), mode=HOSTED, names=("also.example",)),
    Case("PreferredVerify, which is delivered all the same", ("other.example",), mode="PreferredVerify"),
    Case("SNI: the MX host's name", (OWN,), matched=OWN, by_sni=True),
    Case("SNI: the route's name", (OWN,), matched=OWN, hop="route", by_sni=True),
    Case("SNI: none for an address", (OWN,), hop="address", by_sni=True),
)
NUMBERS: Final = {case.id: number for number, case in enumerate(CASES, 1)}


@dataclass
class Came:
    """What came of a case."""

    last: LastTLS
    lines: list[str]
    """Of our log."""
    checked: dict[str, Any]


@dataclass
class Ran:
    """All cases at one server."""

    network: str
    came: dict[str, Came] = field(default_factory=dict[str, Came])
    arrived: list[bytes] = field(default_factory=list[bytes])
    log: str = ""

    def has_arrived(self, case: Case) -> bool:
        return any(f"Subject: {case.id}\n".encode() in one for one in self.arrived)


def of(case: Case, text: str) -> str:
    return text.replace("{n}", str(NUMBERS[case.id]))


def zones(network: str) -> dict[str, list[str]]:
    """All that is asked about the cases, whose host number n has the address n of the network."""
    example: list[str] = []
    pointers: list[str] = []
    for case in CASES:
        address = f"{network}.{NUMBERS[case.id]}"
        example.append(of(case, f"{case.domain}. IN MX 10 {MX}."))
        # Where the route is a name, the MX records lead nowhere: they must not be used.
        example.append(of(case, f"{MX}. IN A {address if case.hop != 'route' else '127.0.0.2'}"))
        example.append(of(case, f"{ROUTE}. IN A {address}"))
        example.append(of(case, f"{REVERSE}. IN A {address}"))
        example.append(of(case, "liar.p{n}.example. IN A 127.0.0.3"))
        pointers += reverse(address, *(of(case, one) for one in case.pointers))
    return {"example": example, "127.in-addr.arpa": pointers}


def to(case: Case, address: str) -> Destination:
    hops = {"mx": [], "route": [route(25, of(case, ROUTE))], "address": [route(25, address)]}
    return destination(
        of(case, case.domain),
        resource=case.id,
        tls_mode=case.mode,
        names=[of(case, one) for one in case.names],
        routes=hops[case.hop],
    )


def certificate(case: Case, root: Signer) -> bytes:
    made = chains.make(root, *(of(case, one) for one in case.sans), common_name=of(case, case.common_name))
    return chains.served(made)


def listen_at(receiver: Receiver, network: str, root: Signer) -> None:
    """Give each case its address at the server, before that starts."""
    stranger = chains.served(chains.make(root, "stranger.example"))
    for case in CASES:
        address, own = f"{network}.{NUMBERS[case.id]}", certificate(case, root)
        if case.by_sni:
            name = of(case, ROUTE if case.hop == "route" else MX)
            receiver.listen_at(address, 25, stranger, by_sni={name: own})
        else:
            receiver.listen_at(address, 25, own)


def postfix(root: Signer) -> Postfix:
    return Postfix.receiving(
        certificate=chains.served(chains.make(root, "stranger.example")),
        name=GREETS_AS,
        domains=("static:all",),
    )


def exim(root: Signer) -> Exim:
    return Exim.receiving(certificate=chains.served(chains.make(root, "stranger.example")), name=GREETS_AS)


async def run(ran: Ran, directory: Path, root: Signer, resolver: str) -> None:
    async with AsyncExitStack() as ends:
        made = await ends.enter_async_context(delivering(directory, timeouts=Timeouts()))
        made.trusted = [root.pem]
        changes = {"resolvers": [resolver], "address_family": "IPv4"}
        made.settings = made.settings.model_copy(update=changes)
        made.apply(*(to(case, f"{ran.network}.{NUMBERS[case.id]}") for case in CASES))
        mids = {
            case.id: await made.send(
                f"someone@{of(case, case.domain)}", body=f"Subject: {case.id}\r\n\r\nhello\r\n".encode()
            )
            for case in CASES
        }
        for case in CASES:
            state = await until(
                lambda case=case: (found := made.state(case.id)) and found.last_tls and found,
                case.id,
                seconds=90,
            )
            checked = await check(made, of(case, case.domain))
            lines = [one["message"] for one in made.lines if one.get("mid") == mids[case.id]]
            dcids = {one["dcid"] for one in made.lines if one.get("mid") == mids[case.id] and one.get("dcid")}
            lines += [one["message"] for one in made.lines if one.get("dcid") in dcids]
            ran.came[case.id] = Came(state.last_tls, lines, checked)


async def check(made: Delivering, domain: str) -> dict[str, Any]:
    asked = checking.request(domain, seconds=60)
    return await asyncio.to_thread(checking.check, made.snapshot, made.files.content, "default-0", asked)


@pytest.fixture(scope="module", params=["Postfix", "Exim"])
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """All cases, sent to this server, and what came of them."""
    root = Signer.of(Authority())
    make: dict[str, Callable[[Signer], Receiver]] = {"Postfix": postfix, "Exim": exim}
    network = "127.82.0" if request.param == "Postfix" else "127.83.0"
    found = Ran(network)
    with ExitStack() as ends:
        receiver = make[request.param](root)
        listen_at(receiver, network, root)
        ends.enter_context(receiver)
        servers = ends.enter_context(NameServers(zones(network)))
        uvloop.run(run(found, tmp_path_factory.mktemp("names"), root, servers.address))
        sent = sum(one.last.result == "Delivered" for one in found.came.values())
        waiting.until(lambda: len(receiver.messages()) >= sent, seconds=60, what="all mail in the mailbox")
        found.arrived, found.log = receiver.messages(), receiver.log
        yield found


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_names(ran: Ran, case: Case) -> None:
    came = ran.came[case.id]
    last, verdict = came.last, came.checked["verdict"]
    if case.matched:
        name = of(case, case.matched)
        assert (last.result, last.verified) == ("Delivered", True), last.reason
        assert (last.matched_name, last.name_source) == (name, case.source)
        assert any(f"verified name {name} ({case.source})" in line for line in came.lines)
        assert (verdict["verified"], verdict["matchedName"], verdict["nameSource"]) == (
            True,
            name,
            case.source,
        )
    elif case.mode == "PreferredVerify":
        assert (last.result, last.verified) == ("Delivered", False)
        assert "name did not match: asked for " in last.reason
        assert (verdict["delivered"], verdict["verified"]) == (True, False)
    else:
        assert (last.result, last.verified) == ("NameMismatch", False)
        assert "asked for " in last.reason
        assert all(of(case, one).rstrip(".").lower() in last.reason for one in case.sans if not case.by_sni)
        assert (verdict["delivered"], verdict["result"]) == (False, "NameMismatch")
    assert ran.has_arrived(case) == (last.result == "Delivered")
    if case.hop != "address":
        hop = of(case, ROUTE if case.hop == "route" else MX)
        assert last.host == hop
        assert came.checked["nextHops"][0]["connections"][0]["tls"]["sni"] == hop


def test_the_server_saw_the_names_of_mx_and_route_as_sni_and_never_an_address(ran: Ran) -> None:
    if ran.network == "127.83.0":  # Exim writes it down
        for case in CASES:
            if case.matched and case.hop != "address":
                assert f"SNI={of(case, ROUTE if case.hop == 'route' else MX)}" in ran.log
        assert "SNI=127." not in ran.log
    [none] = [case for case in CASES if case.id == "SNI: none for an address"]
    assert "stranger.example" in ran.came[none.id].last.reason
