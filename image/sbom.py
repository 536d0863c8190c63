"""Writes what the image is made of as a CycloneDX 1.6 bill of materials, from what is installed in it.

Run by `image/install.sh` with the image's own Python, which has no more than the program's dependencies: standard
library only. Python packages come from their metadata, those of the base system from dpkg's list, where there is one.
"""  # noqa: INP001 - a program by itself

import json
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

_DPKG = Path("/var/lib/dpkg/status")
_OS = Path("/etc/os-release")
_ROOT = "letterlock"

type Component = dict[str, Any]


def bill(found: list[Distribution], base: list[Component]) -> dict[str, Any]:
    """The document. `found`: the installed packages, ours among them; `base`: the system's."""
    by_name = {_normal(one.name): one for one in found}
    ours = by_name.pop(_ROOT)
    components = [_package(one) for _, one in sorted(by_name.items())]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**_package(ours), "type": "application"}},
        "components": [*components, *base],
    }


def system_packages(status: str, system: str) -> Iterator[Component]:
    """What dpkg has installed. `status`: its list; `system`: the ID of os-release."""
    for paragraph in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " "
        )
        if "installed" not in fields.get("Status", "").split():
            continue
        name, version = fields["Package"], fields["Version"]
        purl = f"pkg:deb/{system}/{name}@{quote(version, safe='.+~-')}?arch={fields['Architecture']}"
        yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _package(one: Distribution) -> Component:
    purl = f"pkg:pypi/{_normal(one.name)}@{one.version}"
    component: Component = {
        "type": "library",
        "bom-ref": purl,
        "name": one.name,
        "version": one.version,
        "purl": purl,
    }
    expression = one.metadata.get("License-Expression")
    text = one.metadata.get("License")
    if expression:
        component["licenses"] = [{"expression": expression}]
    elif text and "\n" not in text:
        component["licenses"] = [{"license": {"name": text}}]
    return component


def _normal(name: str) -> str:
    """As package registries compare names (PEP 503)."""
    return name.lower().replace("_", "-").replace(".", "-")


def _system_id() -> str:
    lines = _OS.read_text().splitlines() if _OS.is_file() else []
    return next((line[3:].strip('"') for line in lines if line.startswith("ID=")), "linux")


def main() -> None:
    """Print the bill of this environment."""
    status = _DPKG.read_text() if _DPKG.is_file() else ""
    base = list(system_packages(status, _system_id()))
    json.dump(bill(list(distributions()), base), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
