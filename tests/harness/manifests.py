"""Short ways to write manifests of our kinds in tests."""

from collections.abc import Mapping
from typing import Any

type Manifest = dict[str, Any]


def manifest(kind: str, spec: Mapping[str, Any] | None = None, *, name: str = "sample") -> Manifest:
    """A manifest of `kind`; without `spec` it has none."""
    whole: Manifest = {
        "apiVersion": "letterlock.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
    }
    return whole if spec is None else {**whole, "spec": dict(spec)}


def gateway(name: str = "sample", **spec: Any) -> Manifest:
    """A MailGateway."""
    return manifest("MailGateway", spec, name=name)


def certificate(name: str = "sample", **spec: Any) -> Manifest:
    """A Certificate."""
    return manifest("Certificate", spec, name=name)


def listener(name: str = "sample", **spec: Any) -> Manifest:
    """A Listener."""
    return manifest("Listener", spec, name=name)


def destination(*domains: str, **spec: Any) -> Manifest:
    """A DestinationControl for these domains."""
    return manifest("DestinationControl", {"domains": list(domains), **spec})


def ca_list(name: str = "sample", **spec: Any) -> Manifest:
    """A CAList."""
    return manifest("CAList", spec, name=name)
