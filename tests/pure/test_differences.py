"""When a derived object is written: it differs, or we own what we no longer want."""

import copy
from typing import Any

import pytest

from letterlock_operator.act.differences import differs

WANTED: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "a", "labels": {"x": "y"}, "annotations": {}},
    "spec": {"ports": [{"name": "smtp", "port": 25}], "selector": {"x": "y"}},
}
OBSERVED: dict[str, Any] = {
    "metadata": {
        "name": "a",
        "uid": "1",
        "labels": {"x": "y", "others": "too"},
        "managedFields": [
            {
                "manager": "letterlock",
                "operation": "Apply",
                "fieldsV1": {
                    "f:metadata": {"f:labels": {"f:x": {}}},
                    "f:spec": {
                        "f:selector": {},
                        "f:ports": {'k:{"port":25,"protocol":"TCP"}': {".": {}, "f:name": {}, "f:port": {}}},
                    },
                },
            },
            {
                "manager": "kubectl",
                "operation": "Apply",
                "fieldsV1": {"f:metadata": {"f:labels": {"f:z": {}}}},
            },
        ],
    },
    "spec": {
        "clusterIP": "10.0.0.1",
        "ports": [{"name": "smtp", "port": 25, "protocol": "TCP"}],
        "selector": {"x": "y"},
    },
}


def test_what_others_and_the_server_add_makes_no_difference() -> None:
    assert not differs(WANTED, OBSERVED)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("metadata", "labels", "x"), "changed"),
        (("spec", "selector"), {}),
        (("spec", "ports"), [{"name": "smtp", "port": 26, "protocol": "TCP"}]),
        (("spec", "ports"), []),
    ],
)
def test_a_field_of_ours_that_others_changed_is_a_difference(path: tuple[str, ...], value: object) -> None:
    observed = copy.deepcopy(OBSERVED)
    inner = observed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert differs(WANTED, observed)


def test_a_field_that_we_own_and_no_longer_want_is_a_difference() -> None:
    observed = copy.deepcopy(OBSERVED)
    observed["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"]["f:labels"]["f:old"] = {}
    assert differs(WANTED, observed)


def test_a_list_element_that_we_own_and_no_longer_want_is_a_difference() -> None:
    observed = copy.deepcopy(OBSERVED)
    ports = observed["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:ports"]
    ports['k:{"port":465,"protocol":"TCP"}'] = {".": {}}
    assert differs(WANTED, observed)
