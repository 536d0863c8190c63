"""No private key is shipped (C8): gateways make that of their demo certificate, tests keep theirs to themselves."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

ROOT = Path(__file__).parents[2]
# A block with at least two lines of base64: code that only speaks of keys has none.
_BLOCK = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:\\n|\s)+[A-Za-z0-9+/=]{40}")
_SUFFIXES = {".key", ".p12", ".pfx", ".jks", ".der"}


def shipped() -> list[Path]:
    """What is in the repository outside the tests, and all that the wheel's packages hold, tracked or not."""
    listed = subprocess.run(("git", "ls-files", "-z"), cwd=ROOT, capture_output=True, check=True).stdout
    tracked = {ROOT / name.decode() for name in listed.split(b"\0") if name}
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    packed = {path for package in packages for path in (ROOT / package).rglob("*")}
    found = {path for path in tracked | packed if path.is_file() and "__pycache__" not in path.parts}
    return sorted(path for path in found if not path.is_relative_to(ROOT / "tests"))


def holds_key(content: bytes) -> bool:
    """Whether there is a private key in it, PEM or DER."""
    if _BLOCK.search(content):
        return True
    if not content.startswith(b"\x30"):
        return False
    try:
        serialization.load_der_private_key(content, None)
    except (ValueError, TypeError):
        return False
    return True


def test_neither_repository_nor_wheel_hold_a_private_key():
    files = shipped()
    assert ROOT / "cli/letterlock_cli/main.py" in files
    assert [path for path in files if path.suffix in _SUFFIXES or holds_key(path.read_bytes())] == []


@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
def test_a_key_would_be_found(encoding: serialization.Encoding):
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    made = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    assert holds_key(made)
