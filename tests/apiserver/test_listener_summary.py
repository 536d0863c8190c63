"""The summary of a listener (L5): every field, in `kubectl get`, `kubectl describe` and `letterlock listener list`."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.apiserver.test_crds import condition, write_status
from tests.cli.commands import well
from tests.harness.apiserver import Kubectl
from tests.harness.manifests import listener

WHOLE: Final = listener(
    "inbound",
    type="Private",
    address="192.0.2.25",
    port=2525,
    protocol="SMTPS",
    defaultDomain="example.com",
    maxConcurrency=300,
    tcpQueue=20,
    domainMap=[{"from": "old.example", "to": "example.com"}],
    defaultPolicy={"tls": {"mode": "Required"}},
    certificateRefs=[{"name": "mx"}],
)


@pytest.fixture(autouse=True)
def two_listeners(kubectl: Kubectl) -> None:
    """One that says everything, and one that says nothing: what holds then is in the summary as well."""
    kubectl.apply(WHOLE, listener("plain"))
    write_status(
        kubectl,
        "listeners.letterlock.dev/inbound",
        tls="Required",
        certificate="mx",
        certificateNotAfter="2031-01-01T00:00:00Z",
        domainMapSummary="old.example",
        members=[{"name": "default-0", "listening": True}],
        conditions=[condition("Programmed", "True")],
    )
    write_status(
        kubectl,
        "listeners.letterlock.dev/plain",
        tls="No",
        certificate="demo",
        conditions=[condition("Programmed", "False")],
    )


def table(text: str) -> list[list[str]]:
    """Its rows, by the columns of its heading."""
    heading, *rows = text.rstrip().splitlines()
    starts = [match.start() for match in re.finditer(r"(?:(?<=  )|^)\S", heading)]
    ends = [*starts[1:], None]
    return [[row[a:b].strip() for a, b in zip(starts, ends, strict=True)] for row in (heading, *rows)]


def test_the_command_lists_every_field(kubeconfig: Path):
    heading, inbound, plain = table(well("listener", "list", "--kubeconfig", kubeconfig).stdout)
    assert dict(zip(heading, inbound, strict=True)) == {
        "NAME": "inbound",
        "TYPE": "Private",
        "INTERFACE": "192.0.2.25:2525",
        "PROTOCOL": "SMTPS",
        "DEFAULT DOMAIN": "example.com",
        "MAX (QUEUE)": "300 (20)",
        "DOMAIN MAP": "old.example>example.com",
        "TLS": "Required",
        "CERTIFICATE": "mx",
        "PROGRAMMED": "True",
    }
    assert dict(zip(heading, plain, strict=True)) == {
        "NAME": "plain",
        "TYPE": "Public",
        "INTERFACE": "*:25",
        "PROTOCOL": "SMTP",
        "DEFAULT DOMAIN": "-",
        "MAX (QUEUE)": "1000 (50)",
        "DOMAIN MAP": "-",
        "TLS": "No",
        "CERTIFICATE": "demo",
        "PROGRAMMED": "False (Tested)",
    }


def test_kubectl_gets_every_field(kubectl: Kubectl):
    heading, inbound, plain = table(kubectl("get", "lsn", "--output=wide"))
    found = dict(zip(heading, inbound, strict=True))
    assert re.fullmatch(r"\d+s|\d+m\d*s?", found.pop("AGE"))
    assert found == {
        "NAME": "inbound",
        "TYPE": "Private",
        "PORT": "2525",
        "TLS": "Required",
        "CERTIFICATE": "mx",
        "PROGRAMMED": "True",
        "ADDRESS": "192.0.2.25",
        "PROTOCOL": "SMTPS",
        "DEFAULTDOMAIN": "example.com",
        "CONCURRENCY": "300",
        "QUEUE": "20",
        "DOMAINMAP": "old.example",
    }
    assert plain[:6] == ["plain", "Public", "25", "No", "demo", "False"]
    assert heading[:7] == ["NAME", "TYPE", "PORT", "TLS", "CERTIFICATE", "PROGRAMMED", "AGE"], (
        "the narrow ones"
    )
    assert table(kubectl("get", "lsn"))[0] == heading[:7]


def test_kubectl_describes_every_field(kubectl: Kubectl):
    said = {
        line.strip() for line in re.sub(r" {2,}", " ", kubectl("describe", "lsn", "inbound")).splitlines()
    }
    assert said >= {
        "Name: inbound",
        "Type: Private",
        "Address: 192.0.2.25",
        "Port: 2525",
        "Protocol: SMTPS",
        "Default Domain: example.com",
        "Max Concurrency: 300",
        "Tcp Queue: 20",
        "From: old.example",
        "To: example.com",
        "Mode: Required",
        "Tls: Required",
        "Certificate: mx",
        "Certificate Not After: 2031-01-01T00:00:00Z",
        "Listening: true",
        "Type: Programmed",
    }
    plain = {line.strip() for line in re.sub(r" {2,}", " ", kubectl("describe", "lsn", "plain")).splitlines()}
    assert plain >= {"Port: 25", "Max Concurrency: 1000", "Tcp Queue: 50", "Protocol: SMTP"}
