"""The rules in Python refuse what the API server refuses (the same table), and take what it takes."""

from ipaddress import AddressValueError, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from letterlock_api import rules, values
from tests.harness.manifests import Manifest, destination, gateway, listener
from tests.harness.wrong_manifests import RIGHT, WRONG, Wrong


def refusal(manifest: Manifest) -> str:
    """What the rules say of a manifest; empty: nothing."""
    try:
        return "\n".join(rules.problems(rules.parse(manifest)))
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.sentence)
def test_is_refused(wrong: Wrong) -> None:
    said = refusal(wrong.manifest)
    assert said
    for part in wrong.says:
        assert part in said


@pytest.mark.parametrize("manifest", RIGHT.values(), ids=RIGHT.keys())
def test_is_taken(manifest: Manifest) -> None:
    assert not refusal(manifest)


def test_sentences_are_ids() -> None:
    assert len({wrong.sentence for wrong in WRONG}) == len(WRONG) >= 30


def test_storage_never_changes() -> None:
    before, after = (rules.parse(gateway(storage={"size": size})) for size in ("1Gi", "2Gi"))
    assert "storage cannot change" in "".join(rules.problems(after, before))
    assert not rules.problems(before, before)


@pytest.mark.parametrize(
    ("manifest", "line"),
    [
        (listener(port="25"), "spec.port: write a whole number, without quotes; not '25'"),
        (
            listener(recipients=[{"match": "example.com"}]),
            "spec.recipients[0].match: write a list, as in [a, b], or a line with - for each; not 'example.com'",
        ),
        (
            destination("a.example", tls={"caListRefs": ["partners"]}),
            "spec.tls.caListRefs[0]: write fields (name: value) below it; not 'partners'",
        ),
        (
            destination("a.example", limits={"recipients": {"count": 5, "period": 60}}),
            "spec.limits.recipients.period: write text, in quotes where YAML would read something else; not 60",
        ),
        (
            listener(recipients=[{"match": ["*.example.com"]}]),
            "spec.recipients[0].match[0]: write user@domain, domain, .domain for everything below it (not *.domain)",
        ),
        (listener(maxConcurency=5), "spec.maxConcurency: unknown field: did you mean maxConcurrency?"),
        (
            listener(defaultPolicy={"tls": {"mode": False}}),
            (
                "spec.defaultPolicy.tls.mode: write one of 'No', 'Preferred' or 'Required', not False"
                ' (YAML reads a bare No as false: write "No", in quotes)'
            ),
        ),
        (
            destination("a.example", tls={"mod": "No"}),
            "spec.tls.mod: unknown field: did you mean mode?",
        ),
        (
            listener(mailFlowPolicies=[{"name": "p", "tls": {"clientCertificates": {"names": ["a b"]}}}]),
            (
                "spec.mailFlowPolicies[0].tls.clientCertificates.names[0]:"
                " write a domain name, as in example.com; not 'a b'"
            ),
        ),
        ({"kind": "Listener"}, "None Listener is not known: write apiVersion: letterlock.dev/v1alpha1"),
        (
            {"apiVersion": "letterlock.dev/v1alpha1", "kind": "Listener", "metadata": {"name": "A"}},
            "metadata.name: write a name of lower-case letters, digits, '-' and '.', not 'A'",
        ),
    ],
    ids=[
        "a number written as text",
        "one instead of a list",
        "a name instead of a reference",
        "a number without its unit",
        "an asterisk before a domain",
        "a bare No in YAML",
        "a misspelt field",
        "a misspelt field further down",
        "a list in a list",
        "no API version",
        "a name in capitals",
    ],
)
def test_one_clear_line(manifest: Manifest, line: str) -> None:
    said = refusal(manifest)
    assert said.startswith(line)
    assert "\n" not in said


_ADDRESS = TypeAdapter[str](values.IPAddress)


def _is_address(text: str) -> bool:
    try:
        _ADDRESS.validate_python(text)
    except ValidationError:
        return False
    return True


@given(st.ip_addresses().map(str))
def test_every_address_is_one(text: str) -> None:
    assert _is_address(text)


@given(
    st.lists(st.sampled_from(["", "0", "db8", "ffff", "12345", "g"]), min_size=2, max_size=10).map(":".join)
)
def test_only_addresses_are_addresses(text: str) -> None:
    try:
        IPv6Address(text)
    except AddressValueError:
        assert not _is_address(text)
    else:
        assert _is_address(text)
