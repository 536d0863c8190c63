"""openssl and Java's keytool, as people use them on PKCS#12 files."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

PASSPHRASE: Final = "correct horse"


def openssl(*arguments: str | Path, text: bytes = b"") -> bytes:
    """What openssl says on stdout. Raises AssertionError with its stderr where it fails."""
    return _run("openssl", *arguments, text=text)


def keytool(*arguments: str | Path) -> str:
    """What keytool says; it asks nothing."""
    return _run("keytool", *arguments, "-J-Duser.language=en", "-noprompt").decode()


def _run(program: str, *arguments: str | Path, text: bytes = b"") -> bytes:
    assert shutil.which(program), f"{program} is missing: sh tests/harness/install.sh"
    done = subprocess.run(
        [program, *map(str, arguments)], input=text, capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 0, (done.stderr or done.stdout).decode()
    return done.stdout


def pair(folder: Path, name: str = "mx.example.com", *options: str) -> tuple[Path, Path]:
    """A key and a self-signed certificate, in PEM files."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    subject = f"/O=Example Ltd/CN={name}"
    openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate),
        *("-subj", subject, "-addext", f"subjectAltName=DNS:{name}", "-days", "30", *options),
    )
    return key, certificate
