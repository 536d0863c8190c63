"""testssl.sh and sslyze, which look for everything that is known to be wrong with a TLS server.

Both run with a resolver that knows nobody but the server under test, so that no question of theirs leaves the machine.
Their reports stay in `build/reports`, for people and for CI.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.harness import programs

ROOT: Final = Path(__file__).resolve().parents[2]
REPORTS: Final = ROOT / "build/reports"
# From the least to the worst; a WARN says that a check could not be made.
SEVERITIES: Final = ("OK", "INFO", "WARN", "LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL")
# All of testssl's checks but the simulation of clients and the lists of single ciphers, which find nothing by
# themselves and take most of its time, and those of HTTP.
_TESTSSL: Final = (
    *("--protocols", "--standard", "--fs", "--server-preference", "--server-defaults", "--vulnerable"),
    *("--warnings", "batch", "--quiet", "--color", "0", "--nodns", "none"),
)


@dataclass(frozen=True)
class Finding:
    """One finding of testssl."""

    id: str
    severity: str
    text: str

    def above(self, severity: str) -> bool:
        """Whether it is worse than that."""
        return SEVERITIES.index(self.severity) > SEVERITIES.index(severity)


class Testssl:
    """One run of testssl, in the background: `findings` waits for its end."""

    __test__ = False

    def __init__(self, directory: Path, name: str, port: int, ca: bytes) -> None:
        """Begin. `name`: the server's, which is on 127.0.0.1; `ca`: PEM; `directory`: for files of this run."""
        REPORTS.mkdir(parents=True, exist_ok=True)
        self.report = REPORTS / "testssl.json"
        self.report.unlink(missing_ok=True)
        ca_file = directory / "testssl-ca.pem"
        ca_file.write_bytes(ca)
        command = [str(programs.require("testssl")), *_TESTSSL, "--starttls", "smtp"]
        command += ["--add-ca", str(ca_file), "--ip", "127.0.0.1", "--jsonfile", str(self.report)]
        with (REPORTS / "testssl.txt").open("wb") as output:
            self.process = subprocess.Popen(
                _alone(directory, name, [*command, f"{name}:{port}"]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def findings(self, seconds: float = 1800) -> list[Finding]:
        """What it has found. Raises subprocess.TimeoutExpired."""
        self.process.wait(timeout=seconds)
        loaded: list[dict[str, str]] = json.loads(self.report.read_text())
        return [Finding(one["id"], one["severity"], one["finding"]) for one in loaded]

    def stop(self) -> None:
        """End it if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def sslyze(
    directory: Path, name: str, port: int, ca: bytes, profile: Mapping[str, Any], report: str
) -> tuple[int, str]:
    """Let sslyze judge the server by a profile in the form of Mozilla's; gives its exit status (0: good) and words.

    `report`: name of the JSON file in `build/reports`.
    """
    REPORTS.mkdir(parents=True, exist_ok=True)
    ca_file, profile_file = directory / "sslyze-ca.pem", directory / "sslyze-profile.json"
    ca_file.write_bytes(ca)
    profile_file.write_text(json.dumps(profile))
    found = subprocess.run(
        [ROOT / "tests/harness/sslyze.sh"], check=True, capture_output=True, text=True, timeout=600
    )
    command = [found.stdout.strip(), "--starttls", "smtp", "--certinfo_ca_file", str(ca_file)]
    command += [
        "--custom_tls_config",
        str(profile_file),
        "--json_out",
        str(REPORTS / report),
        f"{name}:{port}",
    ]
    done = subprocess.run(
        _alone(directory, name, command), check=False, capture_output=True, text=True, timeout=600
    )
    return done.returncode, done.stdout + done.stderr


def _alone(directory: Path, name: str, command: Sequence[str]) -> list[str]:
    """`command`, for which `name` is 127.0.0.1 and no name server is to be had."""
    (directory / "hosts").write_text(f"127.0.0.1 localhost {name}\n")
    (directory / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    script = 'for f in hosts resolv.conf; do mount --bind "$0/$f" /etc/$f || exit; done; exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, str(directory), *command]
