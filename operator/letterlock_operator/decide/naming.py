"""Names that we would use and that objects of others have: these are never taken over, and `NameTaken` says so."""

from letterlock_api.conditions import Reason
from letterlock_operator import names
from letterlock_operator.decide.verdicts import Finding
from letterlock_operator.world import Keep, World


def gateway_taken(world: World, gateway: str) -> Finding | None:
    """Of what a gateway cannot be without: what is somebody else's."""
    wanted = [f"StatefulSet/{gateway}", f"Service/{gateway}-members"]
    taken = [one for one in wanted if one in world.foreign]
    for keeps, kind, name in (
        (world.config_maps, "ConfigMap", names.snapshot_config_map(gateway)),
        (world.secrets, "Secret", names.member_secret(gateway)),
        (world.secrets, "Secret", names.internal_secret(gateway)),
    ):
        found = keeps.get(name)
        if isinstance(found, Keep) and not found.ours:
            taken.append(f"{kind}/{name}")
    if not taken:
        return None
    return (
        Reason.NAME_TAKEN,
        f"{taken[0]} exists and is not ours: rename the MailGateway, or remove that object",
    )


def service_taken(world: World, service: str, kind: str) -> Finding | None:
    """Of a resource of this `kind`, whose Service is called after it: whether that is somebody else's."""
    if f"Service/{service}" not in world.foreign:
        return None
    text = f"Service {service} exists and is not ours: rename the {kind}, or remove that Service"
    return Reason.NAME_TAKEN, text
