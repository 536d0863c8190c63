"""Which names count: matching, and what a certificate presents."""

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from letterlock_gateway.deliver import references
from letterlock_gateway.deliver.references import Reference
from letterlock_gateway.tls import chains, names
from letterlock_gateway.tls.names import Presented
from tests.harness.certificates import Authority, leaf_of

MATCHES = [
    ("mail.example.com", "mail.example.com"),
    ("MAIL.Example.COM", "mail.example.com"),
    ("mail.example.com.", "mail.example.com"),
    ("mail.example.com", "mail.example.com."),
    ("mail.example.com", "*.example.com"),
    ("foo.example.com", "f*.example.com"),
    ("foo.example.com", "*o.example.com"),
    ("foooo.example.com", "f*o.example.com"),
    ("xn--bcher-kva.example.com", "*.example.com"),
    ("bücher.example", "xn--bcher-kva.example"),
    ("xn--bcher-kva.example", "bücher.example"),
]
MISMATCHES = [
    ("example.com", "mail.example.com"),
    ("mail.example.com", "example.com"),
    ("example.com", "*.example.com"),
    ("a.b.example.com", "*.example.com"),
    ("bar.example.com", "f*.example.com"),
    ("mail.example.com", "mail.*.com"),
    ("example.com", "*.com"),
    ("com", "*"),
    ("a.example.com", "*.*.com"),
    ("a.example.com", "**.example.com"),
    ("xn--bcher-kva.example.com", "x*.example.com"),
    ("xn--bcher-kva.example.com", "xn--b*.example.com"),
    ("", ""),
    ("", "*.example.com"),
    ("*.example.com", "*.example.com"),
    ("mail.example.com", "mail.example.com\0.evil.example"),
    ("f.example.com", "f*f.example.com"),
]


@pytest.mark.parametrize(("reference", "presented"), MATCHES)
def test_names_that_match(reference: str, presented: str) -> None:
    assert names.match(reference, presented)


@pytest.mark.parametrize(("reference", "presented"), MISMATCHES)
def test_names_that_do_not_match(reference: str, presented: str) -> None:
    assert not names.match(reference, presented)


LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=2, max_size=5).map(".".join)


@given(NAME)
def test_every_name_matches_itself_in_any_case_and_with_a_dot(name: str) -> None:
    assert names.match(name, name)
    assert names.match(name.upper() + ".", name)


@given(NAME, NAME)
def test_without_a_wildcard_only_equal_names_match(one: str, other: str) -> None:
    assert names.match(one, other) == (one == other)


@given(LABEL, NAME)
def test_a_wildcard_stands_for_exactly_one_label(label: str, parent: str) -> None:
    assert names.match(f"{label}.{parent}", f"*.{parent}")
    assert not names.match(parent, f"*.{parent}")
    assert not names.match(f"{label}.{label}.{parent}", f"*.{parent}")


@given(st.text(max_size=40), st.text(max_size=40))
def test_matching_takes_any_text_and_never_matches_a_top_level_wildcard(one: str, other: str) -> None:
    names.match(one, other)
    assert not names.match(one, "*.com")


def presented(*dns_names: str, common_name: str | None = None) -> Presented:
    return names.presented_names(leaf_of(Authority().issue(*dns_names, common_name=common_name)))


def test_with_a_dns_name_the_common_name_does_not_count() -> None:
    assert presented("a.example", common_name="b.example") == Presented(("a.example",), common_name=False)


def test_without_a_dns_name_the_common_name_counts() -> None:
    assert presented(common_name="B.Example") == Presented(("b.example",), common_name=True)


def test_an_address_is_no_dns_name() -> None:
    found = presented("192.0.2.1", common_name="b.example")
    assert found == Presented(("b.example",), common_name=True)


def test_a_certificate_without_any_name_presents_none() -> None:
    assert presented("192.0.2.1").names == ()


def wanted(mode: str, **changes: object) -> list[tuple[str, str]]:
    fields: dict[str, object] = {"domain": "a.example", "explicit": [], "route": "", "mx": ["mx.example"]}
    found = references.wanted(mode, **(fields | changes))  # pyright: ignore[reportArgumentType]
    return [(one.name, one.source) for one in found]


@pytest.mark.parametrize("mode", ["PreferredVerify", "RequiredVerify"])
def test_verify_modes_look_for_the_recipient_domain_only(mode: str) -> None:
    assert wanted(mode) == [("a.example", "Recipient")]
    assert wanted(mode, route="relay.example") == [("a.example", "Recipient")]


def test_hosted_domains_look_for_the_route_or_else_the_mx_host() -> None:
    mode = "RequiredVerifyHostedDomains"
    assert wanted(mode) == [("a.example", "Recipient"), ("mx.example", "MX")]
    assert wanted(mode, route="relay.example") == [("a.example", "Recipient"), ("relay.example", "Route")]


@pytest.mark.parametrize("mode", ["PreferredVerify", "RequiredVerify", "RequiredVerifyHostedDomains"])
def test_explicit_names_replace_all_others(mode: str) -> None:
    assert wanted(mode, explicit=["x.example"], route="relay.example") == [("x.example", "Explicit")]


def test_reverse_names_count_only_for_common_names_in_the_verify_modes() -> None:
    by_common_name, by_dns_name = Presented(("x",), common_name=True), Presented(("x",), common_name=False)
    for mode in ("PreferredVerify", "RequiredVerify"):
        assert references.reverse_counts(mode, [], by_common_name)
        assert not references.reverse_counts(mode, [], by_dns_name)
        assert not references.reverse_counts(mode, ["x.example"], by_common_name)
    assert not references.reverse_counts("RequiredVerifyHostedDomains", [], by_common_name)


def test_a_mismatch_names_what_was_asked_for_and_what_was_presented() -> None:
    text = references.mismatch(
        [Reference("a.example", "Recipient")], Presented(("b.example", "c.example"), common_name=False)
    )
    assert text == "asked for a.example; certificate is for b.example, c.example"


def test_whatever_a_certificate_holds_what_is_told_of_it_ends() -> None:
    """Log, status, tracking and bounces hold it; a hostile next hop would fill them."""
    endless = tuple(f"{number}{'n' * 5000}.example" for number in range(300))
    text = references.mismatch([Reference("a.example", "Recipient")], Presented(endless, common_name=False))
    assert len(text) < 6000
    assert text.endswith("… and 280 more")
    unit = x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "u" * 60)
    assert len(chains.shown(x509.Name([unit] * 100))) == 300
