"""ConfigMaps with exports: kept current. Called by `act.carry`."""

from letterlock_operator import names
from letterlock_operator.act import derived
from letterlock_operator.act.cluster import Cluster
from letterlock_operator.plan import TextFile


async def put(cluster: Cluster, wanted: TextFile) -> None:
    """Make the ConfigMap what it shall be. Raises api.APIError, and OwnerGone."""
    await derived.put(
        cluster,
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": wanted.name,
                "labels": {"app.kubernetes.io/name": "letterlock", names.MANAGED_BY: names.MANAGER},
                "ownerReferences": [cluster.owner_reference(wanted.owner)],
            },
            "data": dict(wanted.data),
        },
    )
