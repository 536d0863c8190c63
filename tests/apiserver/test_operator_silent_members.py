"""A member that the operator cannot ask, or that runs another release, beside one that is well: each is told of."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from letterlock_api.state import STATE_PORT
from letterlock_operator import issuing
from letterlock_operator.api import API
from letterlock_operator.following import Following, Target, Wanted
from letterlock_operator.world import Keep
from tests.harness import network
from tests.harness.apiserver import ApiServer, Kubectl
from tests.harness.kubelet import Kubelet
from tests.harness.operators import operator
from tests.harness.quickstart import CERTIFICATE, GATEWAY, LISTENER, condition, holds, programmed
from tests.harness.waiting import until

TWO = {**GATEWAY, "spec": {**GATEWAY["spec"], "replicas": 2}}
GATEWAYS, LISTENERS = "mailgateways.letterlock.dev/default", "listeners.letterlock.dev/inbound"
OLDER = "0.0.1"


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A folder that makes a program take itself for an older release, where it is found before what is installed."""
    record = tmp_path / "older" / f"letterlock-{OLDER}.dist-info" / "METADATA"
    record.parent.mkdir(parents=True)
    record.write_text(f"Metadata-Version: 2.1\nName: letterlock\nVersion: {OLDER}\n")
    return record.parents[1]


def member(kubectl: Kubectl, name: str) -> dict[str, Any]:
    """What the MailGateway says of it."""
    status: dict[str, Any] = kubectl.json("get", GATEWAYS).get("status") or {}
    found: list[dict[str, Any]] = [one for one in status.get("members") or () if one["name"] == name]
    return found[0] if found else {"problems": []}


def test_a_member_behind_a_cut_network_is_named_and_the_other_goes_on_taking_changes(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path
) -> None:
    with (
        operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"),
        Kubelet(api_server.kubeconfig, namespace, tmp_path / "members") as kubelet,
    ):
        kubectl.apply(TWO, CERTIFICATE, LISTENER)
        until(lambda: holds(kubectl, GATEWAYS, "Ready"), seconds=60, what="both members")
        programmed(kubectl, GATEWAYS, LISTENERS)
        address = kubelet.address("default-1")
        lost = f"no connection to {address} port {STATE_PORT} within 2 s"
        with network.cut(address, STATE_PORT):
            for what in (GATEWAYS, LISTENERS):
                until(
                    lambda what=what: condition(kubectl, what, "Programmed")["reason"] == "MemberUnreachable",
                    seconds=60,
                    what=f"{what} not Programmed",
                )
                said = condition(kubectl, what, "Programmed")["message"]
                assert said.startswith(f"default-1 does not answer: {lost}")
            (problem,) = member(kubectl, "default-1")["problems"]
            assert problem.startswith(lost)
            assert "snapshot" not in member(kubectl, "default-1")
            assert member(kubectl, "default-0")["problems"] == []
            assert holds(kubectl, GATEWAYS, "Ready"), "its kubelet reaches it"
            until(lambda: told(kubectl, "MailGateway", "MemberUnreachable"), what="an Event that says so")
            before = member(kubectl, "default-0")["snapshot"]
            patch = json.dumps({"spec": {"maxConcurrency": 77}})
            kubectl("patch", LISTENERS, "--type=merge", f"--patch={patch}")
            until(
                lambda: member(kubectl, "default-0").get("snapshot", before) != before,
                what="the change on the other",
            )
            until(
                lambda: (
                    kubectl.json("get", GATEWAYS)["status"]["snapshot"]
                    == member(kubectl, "default-0").get("snapshot")
                ),
                what="the snapshot",
            )
            assert not holds(kubectl, LISTENERS, "Programmed")
        programmed(kubectl, GATEWAYS, LISTENERS)
        until(lambda: member(kubectl, "default-1")["problems"] == [], what="a member without problems")
        assert member(kubectl, "default-1")["snapshot"] == member(kubectl, "default-0")["snapshot"]


def told(kubectl: Kubectl, kind: str, reason: str) -> bool:
    items = kubectl.json("get", "events", f"--field-selector=reason={reason}")["items"]
    return any(
        one["involvedObject"]["kind"] == kind and "default-1 does not answer" in one["message"]
        for one in items
    )


def test_a_member_of_an_older_release_shows_as_such_beside_one_that_is_newer(
    api_server: ApiServer, namespace: str, kubectl: Kubectl, tmp_path: Path, older: Path
) -> None:
    with (
        operator(api_server.kubeconfig, namespace, tmp_path / "operator.log"),
        Kubelet(
            api_server.kubeconfig,
            namespace,
            tmp_path / "old",
            environment={"PYTHONPATH": str(older)},
            only=frozenset({"default-0"}),
        ),
        Kubelet(api_server.kubeconfig, namespace, tmp_path / "new", only=frozenset({"default-1"})),
    ):
        kubectl.apply(TWO, CERTIFICATE, LISTENER)
        until(lambda: holds(kubectl, GATEWAYS, "Ready"), seconds=60, what="both members")
        programmed(kubectl, GATEWAYS, LISTENERS)
        new = member(kubectl, "default-1")
        wrong = f"runs version {OLDER}, older than {new['version']} of others"
        until(
            lambda: any(one.startswith(wrong) for one in member(kubectl, "default-0")["problems"]),
            what="what is wrong with the older one",
        )
        assert member(kubectl, "default-0")["version"] == OLDER
        assert new["problems"] == []


@contextlib.contextmanager
def lies_still() -> Generator[str]:
    """The address of a member whose node takes connections, and that answers nothing."""
    with socket.create_server(("127.77.0.1", STATE_PORT)):
        yield "127.77.0.1"


async def test_one_that_lies_still_delays_nothing_that_is_said_of_others() -> None:
    keep = Keep("internal", issuing.issue_internal("default", datetime.now(UTC)), ours=True)
    heard: list[list[str]] = []
    done = asyncio.Event()

    def changed(_: str) -> None:
        said = following._gateways["mail", "default"].answers  # pyright: ignore[reportPrivateUsage]
        heard.append([said[uid][1] for uid in sorted(said)])
        if len(said) == 2:
            done.set()

    # No snapshot is mounted, so that no pod is touched.
    following = Following(cast("API", None), changed)
    with lies_still() as address:
        targets = (
            Target("default-0", "0", address, ready=True),
            Target("default-1", "1", "127.77.0.2", ready=True),
        )
        members = await following.members("mail", {"default": Wanted(targets, "", keep)})
        await done.wait()
        following.close()
    assert len(heard[0]) == 1, "the first word is of one of them alone"
    assert heard[0][0].startswith("no connection to 127.77.0.2"), "and that is the one with an answer"
    assert heard[1][0] == "no answer within 2 s"
    assert [one.problem for one in members["default"]] == heard[1], (
        "nobody is told of before all were asked once"
    )
