"""CA lists that are too large for what members mount: said of these lists, and everything else goes on."""

import json
from typing import Any

from cryptography import x509

from tests.harness.issued import Issued
from tests.harness.places import Place
from tests.harness.quickstart import resource
from tests.harness.waiting import until

LISTS = "calists.letterlock.dev"
# With the system list, which takes half of another one, three fit into four ConfigMaps.
COUNT = 4
OID = x509.ObjectIdentifier("1.3.6.1.4.1.55555.1")


def large(name: str, kib: int = 450) -> str:
    """A root of that size, PEM."""
    padding = x509.UnrecognizedExtension(OID, b"\x04\x82" + bytes(kib * 1024 * 3 // 4))
    return Issued.make(name, ca=True, signs=True, days=(-1, 300), more=[padding]).text


def test_lists_beyond_what_objects_hold_are_too_large_and_the_others_go_on(place: Place) -> None:
    kubectl = place.kubectl

    def source(name: str, content: str) -> None:
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        verb = "replace" if kubectl.run("get", "configmap", name).returncode == 0 else "create"
        kubectl(verb, "--filename", "-", stdin=json.dumps({**body, "data": {"ca.pem": content}}))

    def many(name: str, **spec: Any) -> dict[str, Any]:
        reference = {"configMapKeyRef": {"name": name, "key": "ca.pem"}}
        return resource("CAList", name, certificatesFrom=reference, scope="Referenced", **spec)

    names = [f"large-{number}" for number in range(COUNT)]
    for name in names:
        source(name, large(name))
        kubectl.apply(many(name))
        # One after the other: the older one stays.
        until(lambda name=name: place.status(f"{LISTS}/{name}").get("conditions"), seconds=60, what=name)
    for name in names[:-1]:
        place.wait(f"{LISTS}/{name}", "Programmed", "True")
    last = f"{LISTS}/{names[-1]}"
    place.wait(last, "Ready", "False", "TooLarge", "second MailGateway")
    place.wait(last, "Programmed", "False", "TooLarge")
    # One that is in place may change: its old and its new text lie side by side for a moment.
    before = place.status(f"{LISTS}/{names[0]}")["expiringNext"]
    source(names[0], large("another"))
    until(
        lambda: place.status(f"{LISTS}/{names[0]}")["expiringNext"] != before, seconds=60, what="the new text"
    )
    place.wait(f"{LISTS}/{names[0]}", "Programmed", "True")
    # One that has grown beyond all measure stays as it was.
    source(names[1], large("more", 300) + large("than enough", 300))
    kept = "the earlier list (1 certificate) stays in force"
    place.wait(f"{LISTS}/{names[1]}", "Ready", "False", "TooLarge", kept)
    # And everything else goes on.
    kubectl.apply(
        resource("DestinationControl", "beside", domains=["beside.example"], tls={"mode": "Required"})
    )
    place.wait("destinationcontrols.letterlock.dev/beside", "Programmed", "True")
    place.wait("mailgateways.letterlock.dev/default", "Accepted", "True")
    # Where one goes, there is room for the next.
    kubectl("delete", f"{LISTS}/{names[2]}")
    place.wait(last, "Programmed", "True")
    kubectl("delete", LISTS, names[0], names[1], names[3])


def test_a_configuration_larger_than_an_object_is_packed_and_is_text_again_when_it_has_shrunk(
    place: Place,
) -> None:
    kubectl, controls = place.kubectl, "destinationcontrols.letterlock.dev"

    def lies_as(how: str) -> bool:
        return set(kubectl.json("get", "configmap", "default-snapshot")) & {"data", "binaryData"} == {how}

    def wide(number: int) -> dict[str, Any]:
        domains = [f"{'.'.join(['long' * 15] * 3)}.{one}.p{number}.example" for one in range(250)]
        return resource("DestinationControl", f"wide-{number}", domains=domains, tls={"mode": "Required"})

    assert lies_as("data")
    kubectl.apply(*map(wide, range(24)))
    for number in (0, 23):
        place.wait(f"{controls}/wide-{number}", "Programmed", "True")
    place.wait("mailgateways.letterlock.dev/default", "Accepted", "True")
    until(lambda: lies_as("binaryData"), seconds=60, what="a packed snapshot")
    kubectl("delete", controls, *(f"wide-{number}" for number in range(24)))
    until(lambda: lies_as("data"), seconds=60, what="a snapshot as text")
    place.wait("mailgateways.letterlock.dev/default", "Programmed", "True")
