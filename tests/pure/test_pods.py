"""What is read of a member's pod: the word of its kubelet."""

from typing import Any

import pytest

from letterlock_operator import pods

ENDED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}


def pod(container: dict[str, Any] | None = None, *, ready: bool = True) -> dict[str, Any]:
    return {
        "metadata": {"name": "default-0", "uid": "1"},
        "status": {
            "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [container] if container else [],
        },
    }


@pytest.mark.parametrize(
    ("container", "started", "restarts", "halted"),
    [
        pytest.param(None, False, 0, "", id="nothing is said of it"),
        pytest.param(
            {"state": {"waiting": {"reason": "ContainerCreating"}}}, False, 0, "", id="about to run"
        ),
        pytest.param({"state": {"running": {}}, "restartCount": 0}, True, 0, "", id="runs"),
        pytest.param(
            {"state": {"running": {}}, "lastState": ENDED, "restartCount": 2}, True, 2, "", id="runs again"
        ),
        pytest.param(
            {"state": {"waiting": {"reason": "ImagePullBackOff"}}, "restartCount": 0},
            False,
            0,
            "its container waits: ImagePullBackOff",
            id="without its image",
        ),
        pytest.param(
            {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ENDED, "restartCount": 5},
            True,
            5,
            "its container waits: CrashLoopBackOff; its container ended with 137: OOMKilled",
            id="fails again and again",
        ),
        pytest.param(
            {"state": {"terminated": {"exitCode": 1}}, "restartCount": 0},
            True,
            0,
            "its container ended with 1: no reason given",
            id="has ended",
        ),
    ],
)
def test_what_its_container_does(
    container: dict[str, Any] | None, *, started: bool, restarts: int, halted: str
) -> None:
    found = pods.target(pod(container))
    assert (found.started, found.restarts, found.halted) == (started, restarts, halted)


def test_a_pod_that_was_told_to_end_is_not_ready() -> None:
    leaving = pod()
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert (pods.target(pod()).ready, pods.target(pod()).leaving) == (True, False)
    assert (pods.target(leaving).ready, pods.target(leaving).leaving) == (False, True)
    assert not pods.target(pod(ready=False)).ready
