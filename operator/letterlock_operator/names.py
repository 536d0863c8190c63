"""Names and labels of the objects that we write: what `decide`, `act` and the watches agree on."""

from collections.abc import Mapping
from typing import Final

from letterlock_api.base import GROUP
from letterlock_api.snapshot import content_hash

GATEWAY_LABEL: Final = f"{GROUP}/gateway"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "letterlock"
# On a Secret that is written for others to read: hash of what it was made from.
INPUTS: Final = f"{GROUP}/inputs"
# Pods are watched by this selector only: a cluster has many, and theirs change all the time.
POD_SELECTOR: Final = f"{MANAGED_BY}={MANAGER},{GATEWAY_LABEL}"

# The pod template declares all of these from the start, optional: it never changes with configuration.
KEY_SHARDS: Final = 16
CA_SHARDS: Final = 4


def labels(gateway: str) -> Mapping[str, str]:
    """Labels of everything that belongs to a gateway, its pods included."""
    return {"app.kubernetes.io/name": "letterlock", MANAGED_BY: MANAGER, GATEWAY_LABEL: gateway}


def internal_secret(gateway: str) -> str:
    """The Secret with the gateway's internal CA and the operator's identity; never mounted."""
    return f"letterlock-internal-{gateway}"


def member_secret(gateway: str) -> str:
    """The Secret with the members' identity towards the operator; mounted."""
    return f"{gateway}-member"


def snapshot_config_map(gateway: str) -> str:
    """The ConfigMap with `snapshot.json`."""
    return f"{gateway}-snapshot"


def service(listener: str) -> str:
    """The Service in front of a listener."""
    return f"letterlock-{listener}"


def https_service(gateway: str) -> str:
    """The Service in front of the management pages."""
    return f"{gateway}-https"


def key_shard(gateway: str, number: int) -> str:
    """Secret number 0..15 with private keys and chains."""
    return f"{gateway}-keys-{number}"


def ca_shard(gateway: str, number: int) -> str:
    """ConfigMap number 0..3 with CA certificates."""
    return f"{gateway}-ca-{number}"


def shard_of(file: str, shards: int) -> int:
    """Which shard a file lies in: by its name alone, so that it never moves while others come and go."""
    return int(content_hash(file.encode()), 16) % shards
