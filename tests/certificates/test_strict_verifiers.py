"""What is made here, as strict verifiers see it once it is trusted: Go's library, and cryptography's (C1, C2)."""

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from letterlock_operator import issuing
from letterlock_operator.plan import Issue

NOW: Final = datetime.now(UTC)
NAME: Final = "mx.example.com"
KEYS: Final = (("RSA", 1024), ("RSA", 2048), ("RSA", 3072), ("RSA", 4096), ("ECDSA", 256), ("ECDSA", 384))
# Browsers' rules, which cryptography's verifier has, end at 2048 bits.
BROWSERS: Final = 2048


def made(algorithm: str, size: int) -> dict[str, bytes]:
    order = Issue(
        secret="letterlock-cert-mx",
        owner="Certificate/mx",
        subject={"common_name": NAME, "organization": "Example Ltd", "country": "DE"},
        dns_names=("*.mail.example.com",),
        days=365,
        algorithm="RSA" if algorithm == "RSA" else "ECDSA",
        size=size,
        inputs="of-this",
    )
    return issuing.issue(order, None, NOW)


def test_strict_verifiers_take_every_kind_of_key_once_it_is_trusted(tmp_path: Path) -> None:
    files: list[Path] = []
    for algorithm, size in KEYS:
        data = made(algorithm, size)
        file = tmp_path / f"{algorithm}-{size}.pem"
        file.write_bytes(data[issuing.CERTIFICATE])
        file.with_name(f"{file.name}.csr").write_bytes(data[issuing.REQUEST])
        files.append(file)
        if algorithm == "RSA" and size < BROWSERS:
            continue
        leaf = x509.load_pem_x509_certificate(data[issuing.CERTIFICATE])
        builder = PolicyBuilder().store(Store([leaf])).time(NOW + timedelta(minutes=1))
        for name in (NAME, "mx0.mail.example.com"):
            assert builder.build_server_verifier(x509.DNSName(name)).verify(leaf, []) == [leaf]
        assert x509.DNSName(NAME) in (builder.build_client_verifier().verify(leaf, []).subjects or [])
    source = Path(__file__).parent / "strict"
    program = tmp_path / "strict"
    subprocess.run(
        ("go", "build", "-o", program, "."), cwd=source, env={**os.environ, "CGO_ENABLED": "0"}, check=True
    )
    for name in (NAME, "mx0.mail.example.com"):
        done = subprocess.run((program, name, *files), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    stranger = subprocess.run(
        (program, "other.example", files[0]), capture_output=True, text=True, check=False
    )
    assert "other.example" in stranger.stderr
