"""Deciding again with what the decision before left is the same as deciding from nothing, only faster.

The oracle is `decide` itself: after any sequence of changes to a small world, what is decided with the memo equals what
is decided without, to the byte. And what did not change is not worked on: it stays the same object.
"""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from letterlock_api.destinationcontrol import FailingDomain, LastTLS
from letterlock_api.snapshot import decode
from letterlock_api.state import DestinationState, ListenerState, MemberState
from letterlock_operator import names, orders
from letterlock_operator.decide import NOTHING, Memo, decide, decide_again
from letterlock_operator.plan import Export, Import, Plan
from letterlock_operator.world import InvalidResource, Keep, Member, Unreadable, World
from tests.decide.builders import (
    NOW,
    ca_list,
    ca_pem,
    certificate,
    destination,
    gateway,
    listener,
    world,
)
from tests.harness.issued import Issued

GATEWAYS: Final = ("default", "second")
DOMAINS: Final = ("*", ".example", ".a.example", "a.example", "B.a.example", "b.example", "münchen.example")
CONTROLS: Final = ("c1", "c2", "c3", "c4")
MODES: Final = ("Default", "No", "Preferred", "RequiredVerify")
SIGN_IN: Final = "sign-in"
TIMES: Final = (0, 1, 59, 299, 300, 86400, 40 * 86400, 400 * 86400, -3600)  # seconds
BROKEN: Final = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
ROOT: Final = Issued.make("another", ca=True, signs=True, now=NOW)
ROOTS: Final = (ca_pem(), ROOT.text, BROKEN)
# What somebody else keeps in a Secret, before and after they renew it.
PAIRS: Final = (
    Issued.make("a.example", names=["a.example"], now=NOW),
    Issued.make("b.example", ROOT, names=["b.example"], now=NOW),
)


class Place:
    """A small namespace, and what happens in it."""

    def __init__(self) -> None:
        self.now = NOW
        self.resources: dict[tuple[str, str], Any] = {}
        self.invalid: dict[tuple[str, str], InvalidResource] = {}
        self.secrets: dict[str, Keep | Unreadable] = {}
        self.config_maps: dict[str, Keep | Unreadable] = {}
        self.members: dict[str, tuple[Member, ...]] = {}
        self.foreign: frozenset[str] = frozenset()
        self.memo: Memo = NOTHING
        self.plan = Plan()
        self._revision = 0
        for one in (
            gateway(),
            gateway("second", replicas=2, hostname="{member}.example.com"),
            certificate(),
            listener(certificateRefs=[{"name": "mx"}], defaultPolicy={"tls": {"mode": "Preferred"}}),
            destination("c1", "*", tls={"mode": "Preferred"}),
            ca_list("system", type="System"),
        ):
            self.put(one)

    def world(self) -> World:
        return world(
            *self.resources.values(),
            secrets=dict(self.secrets),
            config_maps=dict(self.config_maps),
            invalid=tuple(self.invalid.values()),
            members=dict(self.members),
            foreign=self.foreign,
        )

    def decided(self) -> None:
        """Decide both ways."""
        seen = self.world()
        self.plan, self.memo = decide_again(seen, self.now, self.memo)
        oracle = decide(seen, self.now)
        for part in Plan.__dataclass_fields__:
            assert getattr(self.plan, part) == getattr(oracle, part), part
        for mount in self.plan.mounts.values():
            assert mount.encoded == mount.snapshot.encode()
            assert decode(mount.encoded) == mount.snapshot

    def put(self, one: Any) -> None:
        """Create or change a resource. Its status stays, and so does its age."""
        key = (one.kind, one.name)
        before = self.resources.get(key)
        self.invalid.pop(key, None)
        self.resources[key] = one if before is None else one.model_copy(update={"status": before.status})

    def remove(self, kind: str, name: str) -> None:
        self.resources.pop((kind, name), None)
        self.invalid.pop((kind, name), None)

    def spoil(self, kind: str, name: str) -> None:
        """The resource does not fit the models any more."""
        if self.resources.pop((kind, name), None) is not None:
            self.invalid[kind, name] = InvalidResource(kind, name, 4, "spec.port: not a number")

    def keep(self, name: str, data: dict[str, bytes], owner: str = "", inputs: str = "") -> Keep:
        self._revision += 1
        return Keep(
            name, data, ours=bool(owner), owner=owner, resource_version=str(self._revision), inputs=inputs
        )

    def pair(self, pair: Issued) -> None:
        """Somebody else keeps this key with its certificate in a Secret."""
        self.secrets[SIGN_IN] = self.keep(SIGN_IN, {"tls.crt": pair.pem, "tls.key": pair.key_pem})

    def issue(self) -> None:
        """What the plan orders is made."""
        for order in (*self.plan.internal, *self.plan.issues):
            present = self.secrets.get(order.secret)
            assert not isinstance(order, Import)
            data = orders.data(order, present if isinstance(present, Keep) else None, self.now)
            inputs = order.inputs if isinstance(order, Export) else ""
            self.secrets[order.secret] = self.keep(order.secret, dict(data), orders.owner(order), inputs)
        for retired in self.plan.retired:
            self.secrets.pop(retired.secret, None)

    def mount(self) -> None:
        """What the plan mounts lies there."""
        for name, mount in self.plan.mounts.items():
            owner = f"MailGateway/{name}"
            shards: dict[str, dict[str, bytes]] = {}
            for file, content in {**mount.tls_files, **mount.ca_files}.items():
                shard = names.key_shard if file in mount.tls_files else names.ca_shard
                shards.setdefault(shard(name, mount.shards[file]), {})[file] = content
            for shard, files in shards.items():
                (self.secrets if "-keys-" in shard else self.config_maps)[shard] = self.keep(
                    shard, files, owner
                )
            place = names.snapshot_config_map(name)
            self.config_maps[place] = self.keep(place, {"snapshot.json": mount.packed}, owner)

    def write(self, keys: Callable[[tuple[str, str]], bool]) -> None:
        """Those statuses of the plan are written, and seen."""
        for key, status in self.plan.statuses.items():
            if key in self.resources and keys(key):
                self.resources[key] = self.resources[key].model_copy(update={"status": status})

    def run(self, name: str, *, ready: bool, behind: str, states: list[DestinationState]) -> None:
        """A member runs what is mounted, all but the resources of kind `behind`."""
        mount = self.plan.mounts.get(name)
        if mount is None:
            self.members.pop(name, None)
            return
        digests = {
            key: digest for key, digest in mount.snapshot.digests.items() if not key.startswith(behind or "-")
        }
        state = MemberState(
            member=f"{name}-0",
            snapshot=mount.snapshot.hash(),
            digests=digests,
            listeners=[ListenerState(name=one.name, listening=True) for one in mount.snapshot.listeners],
            destinations=states,
        )
        self.members[name] = (Member(f"{name}-0", ready, state),)


type Step = Callable[[Place], None]


def _control(draw: st.DrawFn) -> Step:
    name, at = draw(st.sampled_from(CONTROLS)), draw(st.sampled_from(GATEWAYS))
    spec: dict[str, Any] = {"gatewayRef": {"name": at}, "tls": {"mode": draw(st.sampled_from(MODES))}}
    if draw(st.booleans()):
        spec["tls"]["caListRefs"] = [{"name": draw(st.sampled_from(("own", "other")))}]
    if draw(st.integers(0, 3)) == 0:
        # The API takes a sign-in only beside a mode that verifies.
        spec["tls"]["mode"] = "RequiredVerify"
        spec["routes"] = [{"host": "smart.example", "auth": {"secretRef": {"name": SIGN_IN}}}]
    listed = draw(st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=3, unique=True))
    age = draw(st.integers(0, 3))
    return lambda place: place.put(destination(name, *listed, age=age, **spec))


def _listener(draw: st.DrawFn) -> Step:
    name, at = draw(st.sampled_from(("public", "other"))), draw(st.sampled_from(GATEWAYS))
    references = draw(st.lists(st.sampled_from(("mx", "more")), max_size=2, unique=True))
    spec: dict[str, Any] = {
        "gatewayRef": {"name": at},
        "certificateRefs": [{"name": one} for one in references],
        "port": draw(st.sampled_from((2525, 2526))),
        "defaultPolicy": {"tls": {"mode": draw(st.sampled_from(("No", "Preferred")))}},
    }
    return lambda place: place.put(listener(name, age=1, **spec))


def _certificate(draw: st.DrawFn) -> Step:
    name, at = draw(st.sampled_from(("mx", "more"))), draw(st.sampled_from(GATEWAYS))
    spec: dict[str, Any] = {"gatewayRef": {"name": at}, "days": draw(st.sampled_from((30, 365)))}
    spec["level"] = draw(st.sampled_from(("Cluster", "Machine")))
    spec["renewal"] = {"mode": draw(st.sampled_from(("Automatic", "Prepare", "Never")))}
    if draw(st.integers(0, 3)) == 0:
        spec |= {"secretRef": {"name": SIGN_IN}, "level": "Cluster"}
    return lambda place: place.put(certificate(name, **spec))


def _list(draw: st.DrawFn) -> Step:
    name, text = draw(st.sampled_from(("own", "other"))), draw(st.sampled_from(ROOTS))
    spec: dict[str, Any] = {"certificates": text, "scope": draw(st.sampled_from(("Global", "Referenced")))}
    if draw(st.booleans()):
        spec["gatewayRef"] = {"name": draw(st.sampled_from(GATEWAYS))}
    if draw(st.integers(0, 3)) == 0:
        spec["enabled"] = False
    return lambda place: place.put(ca_list(name, **spec))


def _gateway(draw: st.DrawFn) -> Step:
    name = draw(st.sampled_from(GATEWAYS))
    spec: dict[str, Any] = {"replicas": draw(st.integers(1, 2))}
    if draw(st.booleans()):
        spec["hostname"] = "mx.example.com"
    if draw(st.booleans()):
        spec["management"] = {"https": {"port": draw(st.sampled_from((8443, 2525)))}}
    return lambda place: place.put(gateway(name, **spec))


def _removal(draw: st.DrawFn) -> Step:
    what = draw(
        st.sampled_from(
            [("MailGateway", "second"), ("Certificate", "mx"), ("Listener", "public"), ("CAList", "own")]
            + [("DestinationControl", name) for name in CONTROLS]
        )
    )
    spoiled = draw(st.booleans())
    return lambda place: (place.spoil if spoiled else place.remove)(*what)


def _secret(draw: st.DrawFn) -> Step:
    kind = draw(st.sampled_from(("sign-in", "pair", "pair", "broken", "unreadable", "gone", "lost", "taken")))
    pair = draw(st.sampled_from(PAIRS))

    def step(place: Place) -> None:
        match kind:
            case "sign-in":
                place.secrets[SIGN_IN] = place.keep(
                    SIGN_IN, {"username": b"u", "password": b"%d" % len(place.secrets)}
                )
            case "pair":
                place.pair(pair)
            case "broken":
                place.secrets[SIGN_IN] = place.keep(SIGN_IN, {"username": b"u"})
            case "unreadable":
                place.secrets[SIGN_IN] = Unreadable("no right to")
            case "gone":
                place.secrets.pop(SIGN_IN, None)
            case "lost":
                place.secrets = {name: one for name, one in place.secrets.items() if "cert" not in name}
            case _:
                place.foreign = frozenset() if place.foreign else frozenset({"Service/letterlock-public"})

    return step


def _run(draw: st.DrawFn) -> Step:
    name, ready = draw(st.sampled_from(GATEWAYS)), draw(st.integers(0, 4)) > 0
    behind = draw(st.sampled_from(("", "", "Listener", "DestinationControl/c1", "Certificate")))
    spoken = draw(st.lists(st.sampled_from(CONTROLS), max_size=2, unique=True))
    host, fails = draw(st.sampled_from(("one.example", "two.example"))), draw(st.booleans())

    def step(place: Place) -> None:
        last = LastTLS(time=place.now, member=f"{name}-0", domain="a.example", host=host, result="Delivered")
        failing = [FailingDomain(domain="a.example", reason="Unreachable", since=place.now)] if fails else []
        states = [DestinationState(resource=one, last_tls=last, failing=failing) for one in spoken]
        place.run(name, ready=ready, behind=behind, states=states)

    return step


def _time(draw: st.DrawFn) -> Step:
    seconds = draw(st.sampled_from((*TIMES, None)))

    def step(place: Place) -> None:
        # None: exactly when the plan says that something changes by itself.
        place.now = (
            (place.plan.wake or place.now) if seconds is None else place.now + timedelta(seconds=seconds)
        )

    return step


def _act(draw: st.DrawFn) -> Step:
    what = draw(st.sampled_from(("issue", "mount", "all", "some", "nothing")))
    kinds = draw(
        st.sampled_from((("DestinationControl",), ("Listener", "MailGateway"), ("Certificate", "CAList")))
    )

    def step(place: Place) -> None:
        if what in ("issue", "all"):
            place.issue()
        if what in ("mount", "all"):
            place.mount()
        if what in ("some", "all"):
            place.write(lambda key: what == "all" or key[0] in kinds)

    return step


@st.composite
def steps(draw: st.DrawFn) -> list[Step]:
    """What happens, one thing after the other; between two things, something may be carried out."""
    makers = (_control, _control, _listener, _certificate, _list, _gateway, _removal, _secret, _run, _time)
    found: list[Step] = []
    for _ in range(draw(st.integers(1, 10))):
        found += [draw(st.sampled_from((*makers, _act, _act, _act)))(draw), _act(draw)]
    return found


@settings(
    max_examples=int(os.environ.get("LETTERLOCK_EXAMPLES", "80")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(steps())
def test_after_any_changes_what_is_decided_again_is_what_is_decided_from_nothing(changes: list[Step]) -> None:
    place = Place()
    place.decided()
    for change in changes:
        change(place)
        place.decided()


def test_what_a_certificate_of_somebody_else_rests_on_is_looked_at_again() -> None:
    place = Place()
    place.put(certificate(secretRef={"name": SIGN_IN}, level="Cluster", subject={}, dnsNames=[]))
    for pair in (*PAIRS, *PAIRS):
        place.pair(pair)
        for _ in range(2):
            place.decided()
            place.mount()
            place.write(lambda _: True)
        [(_, file)] = place.plan.mounts["default"].tls_files.items()
        assert pair.pem in file
    place.put(ca_list("own", certificates=ROOT.text))
    place.decided()  # who signed it is trusted from now on
    sending = {"certificateRef": {"name": "mx"}}
    place.put(gateway(hostname="elsewhere.example.net", delivery=sending))
    place.decided()
    place.remove("Listener", "public")
    place.decided()  # nobody connects to it by these names any more
    del place.secrets[SIGN_IN]
    place.decided()
    judged = place.plan.statuses["Certificate", "mx"]
    assert [one.reason for one in judged.conditions if one.type == "Ready"] == ["SecretNotFound"]


def test_what_stays_as_it_was_is_looked_at_again_when_it_lies_there_no_more() -> None:
    place = Place()
    for _ in range(3):
        place.decided()
        place.issue()
        place.mount()
    place.remove("Certificate", "mx")
    place.decided()
    [kept] = place.plan.mounts["default"].snapshot.listeners
    assert kept.certificates
    del place.config_maps[names.snapshot_config_map("default")]
    place.decided()


def test_a_pair_of_a_member_that_has_gone_is_seen_beside_a_certificate_that_did_not_change() -> None:
    place = Place()
    place.put(certificate(level="Machine"))
    for _ in range(3):
        place.decided()
        place.issue()
        place.mount()
    pair = place.secrets[next(one for one in place.secrets if one.startswith("letterlock-cert-mx-"))]
    assert isinstance(pair, Keep)
    place.secrets["letterlock-cert-mx-default-7"] = place.keep(
        "letterlock-cert-mx-default-7", dict(pair.data), pair.owner
    )
    place.decided()
    assert [one.secret for one in place.plan.retired] == ["letterlock-cert-mx-default-7"]


def test_what_a_change_does_not_concern_stays_the_same_object() -> None:
    place = Place()
    for number in range(300):
        place.put(destination(f"of-{number}", f"of-{number}.example", f".of-{number}.example"))
    for _ in range(3):
        place.decided()
        place.issue()
        place.mount()
        place.write(lambda _: True)
        place.run("default", ready=True, behind="", states=[])
    place.decided()
    before, statuses = place.memo.ruled["default"].judged, place.plan.statuses
    place.put(destination("of-7", ".of-7.example", tls={"mode": "No"}))
    place.decided()
    after = place.memo.ruled["default"].judged
    assert [name for name, one in after.items() if before[name] is not one] == ["of-7"]
    assert {key for key, one in place.plan.statuses.items() if statuses[key] != one} == {
        ("DestinationControl", "of-7"),
        ("MailGateway", "default"),
    }
    controls = [key for key in statuses if key[0] == "DestinationControl"]
    assert [key for key in controls if statuses[key] is not place.plan.statuses[key]] == [
        ("DestinationControl", "of-7")
    ]
    place.put(destination("c1", "*", tls={"mode": "Required"}))
    place.decided()
    again = place.memo.ruled["default"].judged
    assert all(again[name] is not after[name] for name in again), "all of them inherit from `*`"


def test_a_sign_in_of_another_entry_counts_on_when_more_entries_go_than_stay() -> None:
    place = Place()
    sign_in = {"host": "smart.example", "auth": {"secretRef": {"name": SIGN_IN}}}
    place.put(destination("c1", "*", tls={"mode": "RequiredVerify"}, routes=[sign_in]))
    for number in range(5):
        place.put(destination(f"of-{number}", f"of-{number}.example"))
    place.decided()
    for number in range(4):
        place.remove("DestinationControl", f"of-{number}")
    place.put(destination("of-4", "another.example"))
    place.decided()
