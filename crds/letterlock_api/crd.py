"""The CRDs, made from the models: `python -m letterlock_api.crd` writes them, `--check` finds drift.

The files are committed, so that they can be applied and reviewed as they are: here, and once more in the chart,
together with the schema of the chart's values. `letterlock crds apply` takes them from here without any file.
"""

import argparse
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import yaml

from letterlock_api import chart, rules, schema
from letterlock_api.base import CATEGORY, GROUP, VERSION
from letterlock_api.kinds import KINDS, AnyResource
from letterlock_api.schema import Schema

FOLDER: Final = Path(__file__).parents[1]
CHART_FOLDER: Final = chart.FOLDER / "crds"
# Which release a definition is of: an older release leaves a newer one's alone.
VERSION_ANNOTATION: Final = f"{GROUP}/version"
_HEADER: Final = "# Generated from the models by `python -m letterlock_api.crd`: change those, not this.\n"


def _column(name: str, path: str, kind: str = "string", priority: int = 0) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    return column | ({"priority": priority} if priority else {})


def _condition(name: str) -> dict[str, Any]:
    return _column(name, f'.status.conditions[?(@.type=="{name}")].status')


_AGE: Final = _column("Age", ".metadata.creationTimestamp", "date")
_WIDE: Final = 1
COLUMNS: Final[dict[str, list[dict[str, Any]]]] = {
    "MailGateway": [_column("Ready", ".status.ready"), _condition("Programmed"), _AGE],
    "Certificate": [
        _condition("Ready"),
        _column("Level", ".status.level"),
        _column("CommonName", ".status.commonName"),
        _column("Issuer", ".status.issuer"),
        # A string: kubectl shows dates as ages, and has none for a moment that is still to come.
        _column("Expires", ".status.expires"),
        _AGE,
    ],
    "Listener": [
        _column("Type", ".spec.type"),
        _column("Port", ".spec.port", "integer"),
        _column("TLS", ".status.tls"),
        _column("Certificate", ".status.certificate"),
        _condition("Programmed"),
        _AGE,
        _column("Address", ".spec.address", priority=_WIDE),
        _column("Protocol", ".spec.protocol", priority=_WIDE),
        _column("DefaultDomain", ".spec.defaultDomain", priority=_WIDE),
        _column("Concurrency", ".spec.maxConcurrency", "integer", _WIDE),
        _column("Queue", ".spec.tcpQueue", "integer", _WIDE),
        _column("DomainMap", ".status.domainMapSummary", priority=_WIDE),
    ],
    "DestinationControl": [
        _column("Domains", ".status.domainSummary"),
        _column("TLS", ".spec.tls.mode"),
        _condition("Programmed"),
        _condition("Delivering"),
        _AGE,
    ],
    "CAList": [
        _column("Type", ".spec.type"),
        _column("Enabled", ".spec.enabled", "boolean"),
        _column("Count", ".status.count", "integer"),
        _condition("Ready"),
        _AGE,
    ],
}
_SCALE: Final = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}


def custom_resource_definition(kind: str) -> dict[str, Any]:
    """The CustomResourceDefinition of `kind`."""
    model = KINDS[kind]
    subresources: dict[str, Any] = {"status": {}}
    if kind == "MailGateway":
        subresources["scale"] = _SCALE
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{model.PLURAL}.{GROUP}",
            "annotations": {VERSION_ANNOTATION: version("letterlock")},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": model.PLURAL,
                "singular": kind.lower(),
                "shortNames": [model.SHORT],
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": resource_schema(model)},
                    "subresources": subresources,
                    "additionalPrinterColumns": COLUMNS[kind],
                }
            ],
        },
    }


def resource_schema(model: type[AnyResource]) -> Schema:
    """The schema of a whole resource. Of `metadata` a CRD says nothing: the API server knows it."""
    whole = schema.structural(model)
    kind = whole["properties"]["kind"]["default"]
    required = [name for name in whole.get("required", ()) if name != "metadata"]
    spec, status = whole["properties"]["spec"], whole["properties"]["status"]
    described: Schema = {
        "description": whole["description"],
        "type": "object",
        **({"required": required} if required else {}),
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"{kind}."},
            "metadata": {"type": "object"},
            "spec": spec,
            # The operator writes it whole: what it leaves out is absent, not a default.
            "status": schema.without_defaults(status),
        },
    }
    for rule in (*rules.RULES[kind], *rules.TRANSITIONS.get(kind, ())):
        place = schema.at(described, rule.at)
        place.setdefault("x-kubernetes-validations", []).append({"rule": rule.cel, "message": rule.message})
    return described


class _Dumper(yaml.SafeDumper):
    """Writes equal parts out in full: `kubectl` reads YAML anchors, people do not."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def render(kind: str) -> str:
    """The file for `kind`."""
    body = yaml.dump(
        custom_resource_definition(kind), Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True
    )
    return _HEADER + body


def generated() -> dict[Path, str]:
    """What each generated file holds."""
    files: dict[Path, str] = {}
    specs: dict[str, Schema] = {}
    for kind, model in KINDS.items():
        text = render(kind)
        files |= {folder / f"{model.PLURAL}.yaml": text for folder in (FOLDER, CHART_FOLDER)}
        specs[kind] = resource_schema(model)["properties"]["spec"]
    return {**files, chart.SCHEMA: chart.values_schema(specs)}


def drifted() -> list[str]:
    """The files that are not what the models say, as they are named from the repository's root."""
    root = FOLDER.parent
    return [
        str(path.relative_to(root))
        for path, text in generated().items()
        if not path.exists() or path.read_text() != text
    ]


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` only compare them. Gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m letterlock_api.crd", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file has drifted")
    if parser.parse_args(arguments).check:
        stale = drifted()
        if stale:
            sys.stderr.write(f"{', '.join(stale)} differ from the models: run python -m letterlock_api.crd\n")
        return 1 if stale else 0
    for path, text in generated().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
