"""Credentials that routes name: from users' Secrets to key files of the snapshot (D13). Called by `destinations`.

What cannot be used holds the mail back, and is said without any of the Secret's content.
"""

from letterlock_api import credentials
from letterlock_api.conditions import Reason
from letterlock_operator import names
from letterlock_operator.decide.keeping import INTERNAL_CA_KEY
from letterlock_operator.decide.verdicts import Finding
from letterlock_operator.world import Keep, Unreadable, World

_HELD = "until that is mended, mail for these domains is held back"


def file(world: World, gateway: str, secret: str) -> bytes | Finding:
    """The key file made of the Secret named `secret`, or why there is none."""
    found = world.secrets.get(secret)
    if found is None:
        return Reason.SECRET_NOT_FOUND, f"there is no Secret {secret} with username and password: {_HELD}"
    if isinstance(found, Unreadable):
        return Reason.INVALID, f"Secret {secret} cannot be read ({found.problem}): {_HELD}"
    try:
        made = credentials.from_secret(dict(found.data))
    except ValueError as error:
        return Reason.INVALID, f"Secret {secret}: {error}: {_HELD}"
    internal = world.secrets.get(names.internal_secret(gateway))
    if not isinstance(internal, Keep) or not internal.ours or INTERNAL_CA_KEY not in internal.data:
        return Reason.PENDING, "the gateway's internal CA is not there yet"
    return credentials.encode(made, internal.data[INTERNAL_CA_KEY])
