"""What must hold on old API servers too: definitions and what they refuse, the chart, and members that run it all.

The tests that this module names are those of the newest API server; they run here on the oldest.
"""

import json

import yaml

from tests.apiserver.test_crds import test_storage_never_changes
from tests.apiserver.test_operator_members import test_resources_are_programmed_once_every_member_runs_them
from tests.chart.test_on_an_api_server import (
    test_admission_policies_protect_the_system_list_and_warn,
    test_the_api_server_takes_all_that_is_rendered,
)
from tests.harness.apiserver import OLDEST_BEHAVES_AS, ApiServer
from tests.harness.wrong_manifests import RIGHT, WRONG

__all__ = [
    "test_admission_policies_protect_the_system_list_and_warn",
    "test_resources_are_programmed_once_every_member_runs_them",
    "test_storage_never_changes",
    "test_the_api_server_takes_all_that_is_rendered",
]


def test_it_behaves_as_an_old_release(api_server: ApiServer) -> None:
    version = json.loads(api_server.kubectl("get", "--raw", "/version"))
    assert f"{version['emulationMajor']}.{version['emulationMinor']}" == OLDEST_BEHAVES_AS
    # What may be said in CEL goes by this one.
    assert f"{version['minCompatibilityMajor']}.{version['minCompatibilityMinor']}" == OLDEST_BEHAVES_AS


def test_it_refuses_every_wrong_manifest_and_takes_every_right_one(api_server: ApiServer) -> None:
    def taken(*manifests: object) -> list[str]:
        """The lines for those that are taken; in one run, for hundreds of runs would take minutes."""
        done = api_server.kubectl.run(
            "apply", "--dry-run=server", "--filename", "-", stdin=yaml.safe_dump_all(manifests)
        )
        return done.stdout.splitlines()

    assert taken(*(one.manifest for one in WRONG)) == []
    assert len(taken(*RIGHT.values())) == len(RIGHT)
