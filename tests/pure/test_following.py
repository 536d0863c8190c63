"""Whom the operator hurries: every member that does not run the wanted snapshot, those that refused it included."""

import asyncio

import pytest

from letterlock_api.state import MemberState
from letterlock_operator.following import Target, Wanted, _Followed, _is_behind  # pyright: ignore[reportPrivateUsage]

TARGET = Target("default-0", "uid", "127.0.0.1", ready=True)


@pytest.mark.parametrize(
    ("state", "behind"),
    [
        pytest.param(None, True, id="it has not answered"),
        pytest.param(MemberState(member="default-0", snapshot="old"), True, id="it runs the one before"),
        pytest.param(
            MemberState(member="default-0", snapshot="old", refused="new"),
            True,
            id="it refused the wanted one, whose files may not have been mounted yet",
        ),
        pytest.param(MemberState(member="default-0", snapshot="new"), False, id="it runs the wanted one"),
    ],
)
def test_who_is_behind(state: MemberState | None, behind: bool):
    followed = _Followed(Wanted((TARGET,), "new", None), 0.0, asyncio.Event())
    followed.answers["uid"] = (state, "")
    assert _is_behind(TARGET, followed) is behind
