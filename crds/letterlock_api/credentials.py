"""Credentials for a next hop, as they lie in a key file of the snapshot (operator → gateway).

They travel beside private keys, in Secrets. The name of a file is a hash of its content, and names stand in the
snapshot, which is no secret: so each file holds a salt that only readers of Secrets can know, and nobody can try
passwords against the name.
"""

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Any, Final

from letterlock_api.snapshot import FileName, content_hash

# SASL PLAIN takes any text; this is what people and providers use, and it keeps command lines short.
MAX_LENGTH: Final = 1024


@dataclass(frozen=True, slots=True)
class Credentials:
    """What signs in at a next hop."""

    username: str
    password: str = field(repr=False)

    def problem(self) -> str:
        """Why nobody can sign in with these; empty: they can be used."""
        for name, value in (("username", self.username), ("password", self.password)):
            if not value:
                return f"{name} is empty"
            if len(value.encode()) > MAX_LENGTH:
                return f"{name} is longer than {MAX_LENGTH} bytes"
            if any(letter in value for letter in "\0\r\n"):
                return f"{name} holds a line break or a NUL"
        return ""


def encode(credentials: Credentials, secret: bytes) -> bytes:
    """The file's content. `secret`: known to readers of Secrets only; the salt is made from it."""
    said = json.dumps([credentials.username, credentials.password]).encode()
    salt = hmac.new(secret, said, hashlib.sha256).hexdigest()
    content = {"username": credentials.username, "password": credentials.password, "salt": salt}
    return json.dumps(content, sort_keys=True).encode()


def decode(content: bytes) -> Credentials:
    """The credentials in `content`. Raises ValueError, whose text never holds any of it."""
    try:
        loaded: Any = json.loads(content)
        found = Credentials(str(loaded["username"]), str(loaded["password"]))
    except (ValueError, KeyError, TypeError):
        raise ValueError("credentials cannot be read") from None
    if found.problem():
        raise ValueError(found.problem())
    return found


def from_secret(data: dict[str, bytes]) -> Credentials:
    """What a user's Secret holds. Raises ValueError with what is wrong, and never with a value."""
    missing = [key for key in ("username", "password") if key not in data]
    if missing:
        raise ValueError(f"it has no key {missing[0]}")
    try:
        # A trailing line end is what `kubectl create secret --from-file` brings along from an editor.
        texts = [data[key].decode().removesuffix("\n") for key in ("username", "password")]
    except UnicodeDecodeError:
        raise ValueError("username and password must be UTF-8") from None
    found = Credentials(*texts)
    if found.problem():
        raise ValueError(found.problem())
    return found


def file_name(content: bytes) -> FileName:
    """Name of the file with this content."""
    return f"auth-{content_hash(content)}.json"
