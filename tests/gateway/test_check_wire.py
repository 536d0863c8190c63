"""`letterlock check` says what delivery does: for every failure point, every mode, and what is wrong with certificates.

Each check is compared with real deliveries to the same servers, one per mode; the oracle of both is the wire.
"""

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from letterlock_api.snapshot import ResolvedTLSMode
from letterlock_cli import check_words
from letterlock_gateway.deliver import explanations, outcomes_table
from letterlock_gateway.deliver.outcomes_table import Decision, Event
from letterlock_gateway.deliver.verdicts import MODES
from letterlock_gateway.manage import checking
from tests.gateway.test_outcomes_wire import (
    FAULTS,
    SENT_IN_CLEAR,
    SILENT,
    STRICT,
    VERIFIED,
    Matrix,
    domain_of,
    good,
    matrix,
)
from tests.gateway.test_smart_host import LOGIN, PASSWORD, sign_in
from tests.harness import chains
from tests.harness.certificates import Authority
from tests.harness.chains import Signer
from tests.harness.deliveries import Delivering, delivering, route, until
from tests.harness.faulty_smtp import Fault, FaultySMTP
from tests.harness.mounts import destination
from tests.harness.nameserver import Nameserver

# What can be seen without sending mail.
SESSIONS: Final = [
    fault
    for fault, met in FAULTS.items()
    if len(met) <= len(VERIFIED) or met[-1] in (Event.LOST_ENCRYPTED, Event.REFUSED_ENCRYPTED)
]
type Findings = dict[str, Any]


@pytest.fixture(scope="module")
def root() -> Signer:
    return Signer.of(Authority())


async def check(made: Delivering, domain: str, **changes: Any) -> Findings:
    """A check, beside the servers' event loop."""
    fields: dict[str, Any] = {"seconds": 30} | changes
    asked = checking.request(domain, **fields)
    return await asyncio.to_thread(checking.check, made.snapshot, made.files.content, "default-0", asked)


async def check_all(seven: Matrix) -> dict[ResolvedTLSMode, Findings]:
    """A check of each mode's domain, all at once."""
    silent = any(one.fault in SILENT for one in seven.servers.values())
    changes = {"seconds": 3} if silent else {}
    found = await asyncio.gather(*(check(seven.made, domain_of(mode), **changes) for mode in MODES))
    return dict(zip(MODES, found, strict=True))


def agrees(entry: Findings, decision: Decision, delivered: list[bool]) -> None:
    """A row of a check's table against what became of a message under that mode."""
    if decision is Decision.NEXT_HOST:
        assert (entry["delivered"], delivered) == (False, [])
        assert entry["then"] == "it waits and is tried again"
        assert entry["meaning"]
    else:
        assert entry["delivered"]
        assert delivered == [entry["encrypted"]] == [decision not in SENT_IN_CLEAR]


def reveals_nothing(server: FaultySMTP, before: int) -> None:
    """No mail was sent over any connection since there were `before`, in clear or inside TLS."""
    checks = server.sessions[before:]
    assert checks
    for one in checks:
        assert b"MAIL" not in bytes(one.clear + one.encrypted)


@pytest.mark.parametrize("fault", SESSIONS, ids=[fault or "no fault" for fault in SESSIONS])
async def test_a_check_says_for_every_mode_what_delivery_does(
    tmp_path: Path, root: Signer, fault: Fault
) -> None:
    met = FAULTS[fault]
    strict = STRICT | {"min_version_set": True} if met[-1] is Event.PARAMETERS_REFUSED else {}
    async with matrix(tmp_path, good(root), root, fault, **strict) as seven:
        await seven.send()
        decisions = {mode: outcomes_table.walk(mode, met) for mode in MODES}
        for mode in MODES:
            await seven.ended(mode, decisions[mode])
        before = {mode: len(seven.servers[mode].sessions) for mode in MODES}
        found = await check_all(seven)
        for configured in MODES:
            one = found[configured]
            assert one["mode"] == configured
            assert one["delivered"] == (decisions[configured] is not Decision.NEXT_HOST)
            for entry in one["modes"]:
                agrees(entry, decisions[entry["mode"]], seven.delivered(entry["mode"]))
                assert entry["configured"] == (entry["mode"] == configured)
            reveals_nothing(seven.servers[configured], before[configured])
        state = seven.made.state("RequiredVerify")
        assert state is not None
        assert state.last_tls is not None
        assert found["RequiredVerify"]["verdict"]["result"] == state.last_tls.result


@pytest.mark.parametrize("problem", [*chains.BAD, *chains.GOOD])
async def test_a_check_judges_certificates_as_delivery_does(
    tmp_path: Path, root: Signer, problem: str
) -> None:
    event = Event[problem.partition(",")[0]] if problem in chains.BAD else Event.VERIFIED
    make = chains.BAD.get(problem) or chains.GOOD[problem]
    met = (Event.STARTTLS_OFFERED, Event.ENCRYPTED, event)
    async with matrix(tmp_path, lambda domain: make(root, domain), root) as seven:
        await seven.send()
        decisions = {mode: outcomes_table.walk(mode, met) for mode in MODES}
        for mode in MODES:
            await seven.ended(mode, decisions[mode])
        found = await check_all(seven)
        for configured in MODES:
            for entry in found[configured]["modes"]:
                agrees(entry, decisions[entry["mode"]], seven.delivered(entry["mode"]))
            [hop] = found[configured]["nextHops"]
            judged = hop["connections"][0]["tls"]["checked"][0]
            assert judged["event"] == event.name
            assert [one["name"] for one in judged["asked"]] == [domain_of(configured)]
        under_preferred = {one["mode"]: one for one in found["PreferredVerify"]["modes"]}["PreferredVerify"]
        state = seven.made.state("PreferredVerify")
        assert state is not None
        assert state.last_tls is not None
        assert under_preferred["verified"] == state.last_tls.verified == (event is Event.VERIFIED)
        if event is not Event.VERIFIED:
            assert under_preferred["notVerified"] == state.last_tls.reason


async def test_a_check_of_the_chain_names_every_certificate_and_both_sides_names(
    tmp_path: Path, root: Signer
) -> None:
    middle = chains.make(root, common_name="the middle", is_ca=True)
    pem = chains.served(chains.make(middle, "a.test", "b.test"), middle)
    async with FaultySMTP(pem) as server, delivering(tmp_path) as made:
        made.trusted = [root.pem]
        made.apply(destination("mailbox.example", tls_mode="RequiredVerify", routes=[route(server.port)]))
        found = await check(made, "mailbox.example")
        tls = found["nextHops"][0]["connections"][0]["tls"]
        assert [one["subject"] for one in tls["chain"]] == ["CN=leaf", "CN=the middle"]
        assert next(one["issuer"] for one in tls["chain"]) == "CN=the middle"
        assert all(0 < one["days"] <= 10 for one in tls["chain"])
        assert tls["protocol"] == "TLSv1.3"
        assert tls["cipher"]
        assert tls["checked"][0]["presented"] == ["a.test", "b.test"]
        assert tls["checked"][0]["asked"] == [{"name": "mailbox.example", "source": "Recipient"}]
        assert found["verdict"]["result"] == "NameMismatch"
        assert found["verdict"]["status"] == "4.7.5"
        assert server.sessions[0].commands[-1] == "QUIT"


async def test_another_mode_and_another_next_hop_can_be_asked_for(tmp_path: Path, root: Signer) -> None:
    pem = chains.served(chains.make(root, "mailbox.example"))
    async with FaultySMTP() as plain, FaultySMTP(pem) as secure, delivering(tmp_path) as made:
        made.trusted = [root.pem]
        made.apply(destination("mailbox.example", tls_mode="Preferred", routes=[route(plain.port)]))
        assert (await check(made, "mailbox.example"))["verdict"]["encrypted"] is False
        strict = await check(made, "mailbox.example", mode="RequiredVerify")
        assert (strict["mode"], strict["delivered"]) == ("RequiredVerify", False)
        there = await check(made, "mailbox.example", mode="RequiredVerify", route=f"127.0.0.1:{secure.port}")
        assert there["verdict"]["verified"]
        assert there["policy"]["minVersion"] == "TLSv1.2"
        assert [one["mode"] for one in there["modes"] if one["configured"]] == ["RequiredVerify"]


async def test_each_mode_goes_on_to_the_host_that_it_accepts(tmp_path: Path, root: Signer) -> None:
    good_pem = chains.served(chains.make(root, "mailbox.example"))
    async with (
        FaultySMTP(fault="greeting 554") as closed,
        FaultySMTP() as plain,
        FaultySMTP(chains.served(chains.make(root, "other.test"))) as misnamed,
        FaultySMTP(good_pem) as fine,
        delivering(tmp_path) as made,
    ):
        made.trusted = [root.pem]
        hops = [route(one.port, priority=n) for n, one in enumerate((closed, plain, misnamed, fine))]
        made.apply(destination("mailbox.example", tls_mode="RequiredVerify", routes=hops))
        found = await check(made, "mailbox.example")
        ports = {hop["priority"]: hop["port"] for hop in found["nextHops"]}
        taken = {one["mode"]: (one["encrypted"], one["verified"]) for one in found["modes"]}
        assert taken == {
            "No": (False, False),
            "Preferred": (False, False),
            "PreferredVerify": (False, False),
            "Required": (True, False),
            "RequiredVerify": (True, True),
            "RequiredVerifyHostedDomains": (True, True),
        }
        assert ports == {0: closed.port, 1: plain.port, 2: misnamed.port, 3: fine.port}
        assert [len(hop["connections"]) > 0 for hop in found["nextHops"]] == [True] * 4


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("problem", ["", "password", "name"])
async def test_a_route_that_wants_a_sign_in_is_signed_in_at_and_only_when_verified(
    tmp_path: Path, root: Signer, mode: ResolvedTLSMode, problem: str
) -> None:
    name = "other.test" if problem == "name" else "smart.example"
    async with FaultySMTP(chains.served(chains.make(root, name))) as server, delivering(tmp_path) as made:
        server.logins = {LOGIN.username: "another" if problem == "password" else PASSWORD}
        made.trusted = [root.pem]
        sign_in(made, server.port, tls_mode=mode)
        await made.send()
        delivers = "Verify" in mode and not problem
        what = "the delivery" if delivers else "the deferral"
        await until(lambda: server.delivered if delivers else made.deferred(), what)
        before = len(server.sessions)
        found = await check(made, "mailbox.example")
        assert found["delivered"] == delivers
        if mode == "RequiredVerify":
            assert {one["mode"] for one in found["modes"] if one["delivered"]} == (
                {one for one in MODES if "Verify" in one} if delivers else set()
            )
        if problem == "name":
            assert not any(b"AUTH PLAIN" in bytes(one.encrypted) for one in server.sessions)
        assert PASSWORD not in str(found)
        reveals_nothing(server, before)


@pytest.mark.parametrize("implicit", ["", "closes after handshake"])
async def test_tls_from_the_first_byte(tmp_path: Path, root: Signer, implicit: Fault) -> None:
    pem = chains.served(chains.make(root, "mailbox.example"))
    server = FaultySMTP(pem, implicit_tls=True, fault=implicit)
    async with server, delivering(tmp_path) as made:
        made.trusted = [root.pem]
        for mode in MODES:
            made.apply(
                destination("mailbox.example", tls_mode=mode, routes=[route(server.port, implicit_tls=True)])
            )
            found = await check(made, "mailbox.example")
            assert found["delivered"] == (not implicit)
            if not implicit:
                assert found["verdict"]["encrypted"]
        assert server.clear == b""


@pytest.mark.parametrize(
    ("records", "status", "then", "words"),
    [
        ({("mailbox.example", "MX"): ["0 ."]}, "5.1.10", "it bounces", "null MX"),
        ({("else.example", "A"): ["127.0.0.1"]}, "5.1.2", "it bounces", "NXDOMAIN"),
        ({("mailbox.example", "TXT"): ["x"]}, "5.4.4", "it bounces", "has no address"),
        (
            {("mailbox.example", "MX"): ["10 mx.letterlock.example."]},
            "5.4.6",
            "it bounces",
            "come back to this gateway",
        ),
        ({}, "4.4.3", "it waits and is tried again", "MX look-up of mailbox.example failed"),
    ],
    ids=["null MX", "no such domain", "no address", "our own MX", "a name server that fails"],
)
async def test_domains_without_a_next_hop_are_explained(
    tmp_path: Path, records: dict[tuple[str, str], list[str]], status: str, then: str, words: str
) -> None:
    failing = () if records else ("mailbox.example",)
    async with Nameserver(records, failing=failing) as names, delivering(tmp_path) as made:
        made.settings = made.settings.model_copy(update={"resolvers": [names.address]})
        made.apply(destination("mailbox.example", tls_mode="RequiredVerify"))
        found = await check(made, "mailbox.example")
        assert not found["delivered"]
        assert (found["verdict"]["status"], found["verdict"]["then"]) == (status, then)
        assert words in found["verdict"]["reason"]
        assert {(one["status"], one["delivered"]) for one in found["modes"]} == {(status, False)}


async def test_a_host_that_is_not_there_is_unreachable_under_every_mode(tmp_path: Path, root: Signer) -> None:
    async with FaultySMTP() as server, delivering(tmp_path) as made:
        server.stop_listening()
        made.apply(destination("mailbox.example", tls_mode="Preferred", routes=[route(server.port)]))
        found = await check(made, "mailbox.example")
        assert {(one["result"], one["status"]) for one in found["modes"]} == {("Unreachable", "4.4.1")}
        assert "firewall" in found["verdict"]["meaning"]


async def test_names_in_certificates_are_no_orders_to_the_terminal(
    tmp_path: Path, root: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = chains.served(chains.make(root, common_name="\x1b[2Jowned\x07"))
    async with FaultySMTP(evil) as server, delivering(tmp_path) as made:
        made.apply(destination("mailbox.example", tls_mode="RequiredVerify", routes=[route(server.port)]))
        found = await check(made, "mailbox.example")
        check_words.show({"from": "here", **found})
    said = capsys.readouterr().out
    assert "[2Jowned" in said
    assert not any(ord(letter) < 32 and letter != "\n" for letter in said)


def test_every_event_and_every_mode_is_explained() -> None:
    for event in Event:
        assert explanations.meaning(event).endswith(".")
    assert set(explanations.MODES) == set(MODES)
