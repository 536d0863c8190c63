"""`letterlock crds apply`: brings the cluster's resource definitions up to this release. Called by `main`.

The chart's Job runs it before upgrades, because helm installs definitions once and never changes them. A definition
of a newer release is left alone: its resources may hold what older definitions would drop.
"""

import asyncio
import re
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from letterlock_cli.failures import CommandError
from letterlock_cli.objects import Object, conditions, part
from letterlock_cli.options import Context, Kubeconfig
from letterlock_cli.progress import shown

if TYPE_CHECKING:
    from letterlock_operator.api import API

_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-?([0-9A-Za-z.-]+))?(?:\+.*)?")
# How long the API server may take to serve what it was given.
_ESTABLISHED_WITHIN: Final = 30.0

commands = typer.Typer(help="The resource definitions (CRDs) of a cluster.", no_args_is_help=True)


@commands.callback()
def crds() -> None:
    """See `commands`."""


@commands.command("apply")
def apply(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    r"""Apply this release's resource definitions (CRDs), where the cluster's are not newer.

    Server-side, and never an older one over a newer one. Inside a pod it uses the pod's own credentials.

    \b
    Example:
      letterlock crds apply
    """
    asyncio.run(_apply(kubeconfig, context, dry_run=dry_run))


def newer(standing: str, ours: str) -> bool:
    """Whether a definition of version `standing` is left alone by `ours`; empty: from before versions were written.

    What cannot be read as a version is: nobody knows what it would lose.
    """
    if not standing:
        return False
    theirs, mine = _key(standing), _key(ours)
    return theirs is None or mine is None or theirs > mine


def _key(version: str) -> tuple[int, int, int, bool, str] | None:
    found = _VERSION.fullmatch(version)
    if found is None:
        return None
    # 1.0.0-rc.1 comes before 1.0.0.
    return int(found[1]), int(found[2]), int(found[3]), not found[4], found[4] or ""


async def _apply(kubeconfig: str | None, context: str | None, *, dry_run: bool) -> None:
    from letterlock_api.kinds import KINDS
    from letterlock_operator import access, api

    try:
        where = access.find(kubeconfig, context)
    except access.NoCluster as error:
        raise CommandError(str(error)) from error
    try:
        async with api.API(where) as client:
            applied = [name for kind in KINDS if (name := await _one(client, kind, dry_run=dry_run))]
            with shown("waiting until the API server serves them"):
                await _established(client, applied)
    except api.APIError as error:
        raise CommandError(f"resource definitions could not be applied: {error}") from error


async def _one(client: "API", kind: str, *, dry_run: bool) -> str:
    """Apply the definition of `kind`. Gives its name; empty: it was left alone."""
    from letterlock_api import crd
    from letterlock_operator import api

    wanted = crd.custom_resource_definition(kind)
    name = wanted["metadata"]["name"]
    ours = wanted["metadata"]["annotations"][crd.VERSION_ANNOTATION]
    try:
        standing: Object | None = await client.get("CustomResourceDefinition", None, name)
    except api.NotFound:
        standing = None
    notes = part(part(standing or {}, "metadata"), "annotations")
    theirs = str(notes.get(crd.VERSION_ANNOTATION) or "")
    if newer(theirs, ours):
        print(
            f"warning: {name} stays: it is of version {theirs}, and this is {ours}; "
            "use a release that is at least as new",
            file=sys.stderr,
        )
        return ""
    done = "would be applied" if dry_run else "applied"
    if not dry_run:
        await client.apply("CustomResourceDefinition", None, wanted)
    before = "" if standing is None else f", was {theirs or 'of no version'}"
    print(f"{name} {done}: {ours}{before}")
    return "" if dry_run else name


async def _established(client: "API", names: list[str]) -> None:
    """Wait until the API server serves these definitions."""
    try:
        async with asyncio.timeout(_ESTABLISHED_WITHIN):
            for name in names:
                while True:
                    if _is_established(await client.get("CustomResourceDefinition", None, name)):
                        break
                    await asyncio.sleep(0.2)
    except TimeoutError:
        raise CommandError(
            "the API server does not serve the new definitions yet: look at their status"
        ) from None


def _is_established(definition: Object) -> bool:
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions(definition))
