"""What commands tell of messages and destinations: what was not so is not said."""

from typing import Any

import pytest

from letterlock_cli import messages
from letterlock_cli.columns import LISTINGS

_DESTINATIONS = next(one for one in LISTINGS if one.group == "destination")


def told(last: dict[str, Any] | None) -> tuple[str, str]:
    """LAST TLS and VERIFIED of a destination with this last delivery."""
    status = {"lastTLS": last} if last else {}
    row = _DESTINATIONS.cells(
        {"metadata": {"name": "d"}, "spec": {"domains": ["a.example"]}, "status": status}
    )
    found = dict(zip(_DESTINATIONS.headings, row, strict=True))
    return found["LAST TLS"], found["VERIFIED"]


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (None, ("-", "-")),
        ({"result": "Delivered", "verified": False}, ("clear text", "no")),
        ({"result": "Delivered", "protocol": "TLSv1.3", "verified": True}, ("TLSv1.3", "yes")),
        ({"result": "Unreachable", "verified": False}, ("Unreachable", "-")),
        ({"result": "NameMismatch", "verified": False}, ("NameMismatch", "-")),
    ],
    ids=["no traffic", "in clear text", "verified", "nobody answered", "not delivered for want of TLS"],
)
def test_what_was_not_delivered_did_not_go_in_clear_text(
    last: dict[str, Any] | None, said: tuple[str, str]
) -> None:
    assert told(last) == said


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"icid": 0}, "made here"),
        (
            {"icid": 7, "receivedFrom": "c.example [192.0.2.1]", "receivedOver": {"protocol": "TLSv1.3"}},
            "from c.example [192.0.2.1] over TLSv1.3, ICID 7",
        ),
        ({"icid": 7, "receivedFrom": "[192.0.2.1]"}, "from [192.0.2.1] in clear text, ICID 7"),
        (
            {
                "icid": 0,
                "receivedFrom": "mx-2 MID 4000, c.example [192.0.2.1]",
                "receivedOver": {"protocol": "TLSv1.3"},
            },
            "from c.example [192.0.2.1], handed on by mx-2 MID 4000, over TLSv1.3",
        ),
        ({"icid": 0, "receivedFrom": "mx-2 MID 4000"}, "made at mx-2 MID 4000"),
    ],
    ids=["made here", "over TLS", "in clear text", "handed on", "made at a member that has gone"],
)
def test_where_a_message_came_from(
    capsys: pytest.CaptureFixture[str], fields: dict[str, Any], said: str
) -> None:
    message: dict[str, Any] = {
        "member": "mx-0",
        "mid": 1,
        "sender": "a@b.example",
        "receivedAt": "2026-01-01T00:00:00Z",
        "recipients": [],
    }
    messages.print_message({**message, **fields})
    assert f"received     2026-01-01T00:00:00Z {said}\n" in capsys.readouterr().out
