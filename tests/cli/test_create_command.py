"""Names of resources, made of the names that certificates are for (C1)."""

import pytest

from letterlock_api.rules.manifests import parse
from letterlock_cli.create_command import resource_name
from letterlock_cli.failures import CommandError
from tests.harness.manifests import certificate


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("mx.example.com", "mx.example.com"),
        ("MX.Example.COM.", "mx.example.com"),
        ("*.example.com", "wildcard.example.com"),
        ("f*.example.com", "f.example.com"),
        ("mx{ordinal}.example.com", "mx.example.com"),
        ("{member}.example.com", "example.com"),
        ("mx-{ordinal}.example.com", "mx.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("a_b.example", "a-b.example"),
        ("x" * 300, "x" * 180),
    ],
)
def test_a_resource_is_named_after_its_certificate(name: str, made: str):
    assert resource_name(name) == made
    parse(certificate(made))


@pytest.mark.parametrize("name", ["*", "{member}", "...", "_"])
def test_what_gives_no_name_is_refused(name: str):
    with pytest.raises(CommandError, match="give one"):
        resource_name(name)
