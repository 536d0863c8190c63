"""Commands on one certificate: its chain as openssl shows it, its request, and its PKCS#12 export (C2, C5, C6).

Called by `resource_commands`, which registers them.
"""

import os
import sys
from pathlib import Path
from typing import Final

from letterlock_cli.failures import CommandError
from letterlock_cli.objects import Object, items, name, part, texts

_PRIVATE: Final = 0o600


def request(certificate: Object, member: str | None) -> tuple[str, str]:
    """The member whose request it is (empty at Cluster level), and the signing request, PEM. Raises CommandError."""
    status = part(certificate, "status")
    if member is None and status.get("request"):
        return "", str(status["request"])
    found = {str(one["name"]): str(one.get("request") or "") for one in items(status, "members")}
    if member is None and len(found) == 1:
        member = next(iter(found))
    if member is None and found:
        raise CommandError(f"each member has its own request: give --member, one of {', '.join(found)}")
    if member and found.get(member):
        return member, found[member]
    if member and found:
        raise CommandError(f"there is no request of member {member}; there are: {', '.join(found)}")
    if member and status.get("request"):
        raise CommandError("at Cluster level there is one request for all members: leave out --member")
    raise CommandError(
        f"certificate {name(certificate)} has no request: only those with a key made here have one, once it is made"
    )


def secret_name(certificate: Object, member: str | None) -> str:
    """The Secret that holds its key and chain. Raises CommandError."""
    reference = part(part(certificate, "spec"), "secretRef")
    members = [str(one["name"]) for one in items(part(certificate, "status"), "members")]
    if member is None and members:
        if len(members) > 1:
            raise CommandError(f"each member has its own: give --member, one of {', '.join(members)}")
        member = members[0]
    if member is not None and member not in members:
        raise CommandError(
            f"there is no certificate of member {member}; there are: {', '.join(members) or 'none'}"
        )
    template = str(reference.get("name") or f"letterlock-cert-{name(certificate)}")
    if not member:
        return template
    if not reference:
        return f"{template}-{member}"
    return template.replace("{member}", member).replace("{ordinal}", member.rpartition("-")[2])


def use_text(certificate: Object) -> list[tuple[str, str]]:
    """What uses it and when it renews, for the fields above the chain."""
    status = part(certificate, "status")
    return [
        ("used by", ", ".join(texts(status, "usedBy")) or "nothing"),
        ("renews", str(status.get("renewalTime") or "not by itself")),
    ]


def export(data: dict[str, bytes], friendly: str, secret: bytes, target: Path, *, force: bool) -> None:
    """Write the PKCS#12 file, readable by its owner alone. Raises CommandError."""
    from letterlock_operator import pkcs12
    from letterlock_operator.decide.chains import read
    from letterlock_operator.decide.pems import Refused
    from letterlock_operator.plan import ExportedFile

    try:
        chain = read(data.get("tls.key", b""), data.get("tls.crt", b""), data.get("ca.crt", b""))
    except Refused as refused:
        raise CommandError(f"there is nothing to export: {refused}") from refused
    content = pkcs12.write(ExportedFile(target.name, friendly, chain.pem, secret))
    if str(target) == "-":
        sys.stdout.buffer.write(content)
        return
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        descriptor = os.open(target, flags, _PRIVATE)
    except FileExistsError as error:
        raise CommandError(f"{target} is there already: choose another name, or give --force") from error
    except OSError as error:
        raise CommandError(f"cannot write {target}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), _PRIVATE)
        file.write(content)
