"""What the operator counts, on a real API server, checked by the real promtool."""

import re
import urllib.request

from letterlock_operator.metrics import FAMILIES
from tests.harness import promtool
from tests.harness.places import Place
from tests.harness.waiting import until


def served(place: Place) -> dict[str, float]:
    """Its metrics, by name and labels."""
    address = f"http://127.0.0.1:{place.health_port}/metrics"
    with urllib.request.urlopen(address, timeout=30) as answer:
        text = answer.read().decode()
    assert promtool.metrics_problems(text) == ""
    found = re.findall(r"^(letterlock_\w+(?:{.*})?) (\S+)$", text, re.MULTILINE)
    return {series: float(value) for series, value in found}


def test_requests_decisions_and_how_members_do_are_counted(place: Place) -> None:
    ours = f'{{namespace="{place.kubectl.namespace}",gateway="default"}}'
    until(lambda: served(place).get(f"letterlock_members_behind{ours}") == 0, what="no member behind")
    found = served(place)
    assert {one.partition("{")[0] for one in found} == set(FAMILIES)
    assert (found[f"letterlock_members{ours}"], found[f"letterlock_members_ready{ours}"]) == (1, 1)
    assert found['letterlock_operator_api_requests_total{verb="GET",code="200"}'] > 0
    decisions = found["letterlock_operator_decisions_total"]
    assert decisions > 0
    assert found["letterlock_operator_decision_seconds_total"] > 0
    place.kubectl("annotate", "mgw", "default", "example.com/note=again", "--overwrite")
    until(
        lambda: served(place)["letterlock_operator_decisions_total"] > decisions,
        what="another decision",
        seconds=60,
    )
