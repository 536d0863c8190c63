"""The helm program towards a test's API server, and the chart as it renders. For the chart's tests."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

CHART: Final = Path(__file__).parents[2] / "helm" / "letterlock"
# The oldest that the chart takes.
OLDEST: Final = "1.30.0"

type Values = Mapping[str, Any]
type Manifest = dict[str, Any]


class HelmFailed(AssertionError):  # noqa: N818 - it failed, whosever error it was
    """helm ended with an error; the text is what it wrote to stderr."""


@dataclass(frozen=True)
class Helm:
    """The helm program; with `kubeconfig` on a cluster. Calling it gives its standard output."""

    program: Path
    home: Path
    """A folder for its caches."""
    kubeconfig: Path | None = None
    namespace: str = "mail"

    def run(self, *arguments: str, values: Values | None = None) -> subprocess.CompletedProcess[str]:
        """One run, whatever comes of it. `values`: given with `--values`."""
        environment = {
            **os.environ,
            "HELM_CACHE_HOME": str(self.home / "cache"),
            "HELM_CONFIG_HOME": str(self.home / "config"),
            "HELM_DATA_HOME": str(self.home / "data"),
            "KUBECONFIG": str(self.kubeconfig or "/nonexistent"),
        }
        command = [str(self.program), *arguments, "--namespace", self.namespace]
        if values is not None:
            # JSON is YAML that nobody quotes wrongly.
            command += ["--values", "/dev/stdin"]
        return subprocess.run(
            command,
            input=json.dumps(dict(values)) if values is not None else None,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=environment,
        )

    def __call__(self, *arguments: str, values: Values | None = None) -> str:
        """Standard output of a run that went well. Raises HelmFailed."""
        done = self.run(*arguments, values=values)
        if done.returncode != 0:
            raise HelmFailed(f"helm {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def template(self, values: Values | None = None, *arguments: str, release: str = "mx") -> list[Manifest]:
        """What the chart renders to, hooks and tests included. Raises HelmFailed."""
        command = ("template", release, str(CHART), "--kube-version", OLDEST, *arguments)
        rendered = self(*command, values=values or {})
        return [one for one in yaml.safe_load_all(rendered) if one]

    def refusal(self, values: Values) -> str:
        """What is said when these values are refused. Raises AssertionError where they are taken."""
        done = self.run("template", "mx", str(CHART), "--kube-version", OLDEST, values=values)
        if done.returncode == 0:
            raise AssertionError("taken, though it should be refused")
        return done.stderr


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """Those of this kind."""
    return [one for one in manifests if one["kind"] == kind]


def one_of(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    """The only one of this kind (and name). Raises ValueError where there is none or more."""
    (found,) = [one for one in of_kind(manifests, kind) if name in ("", one["metadata"]["name"])]
    return found
