"""Answers to the operator's own requests: what others changed meanwhile is decided on, though no watch shows it.

And what is remembered of them, which goes with the objects.
"""

from datetime import UTC, datetime
from typing import Any, cast

from letterlock_operator.act.cluster import Cluster, Memory
from letterlock_operator.act.makers import Makers
from letterlock_operator.api import API
from letterlock_operator.store import Store
from letterlock_operator.world import FieldConflict


def certificate(revision: int, generation: int = 1, **more: Any) -> dict[str, Any]:
    """As the API server gives it."""
    metadata = {
        "name": "mx",
        "namespace": "mail",
        "uid": "1",
        "resourceVersion": str(revision),
        "generation": generation,
        "managedFields": [{"time": revision}],
    }
    return {"metadata": {**metadata, **more.pop("metadata", {})}, **more}


def cluster() -> Cluster:
    """One that has seen revision 10."""
    store = Store()
    assert store.put("Certificate", certificate(10))
    return Cluster(cast("API", None), store, "mail", Memory(), Makers())


def decides_again(item: dict[str, Any]) -> bool:
    """Whether another pass follows once this answer has come."""
    one = cluster()
    one.seen("Certificate", item)
    return one.memory.unseen


def test_the_answer_to_a_status_write_is_nothing_new():
    assert not decides_again(certificate(11, status={"conditions": []}))


def test_a_change_of_others_that_comes_with_an_answer_is_decided_on():
    one = cluster()
    changed = certificate(12, generation=2, status={"conditions": []})
    one.seen("Certificate", changed)
    assert one.memory.unseen
    assert not one.store.put("Certificate", certificate(11, generation=2)), "the watch's event is nothing new"
    assert decides_again(certificate(12, metadata={"annotations": {"asked": "now"}}))
    assert decides_again(certificate(12, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}))
    assert decides_again(certificate(12, metadata={"uid": "2"}))


def test_a_secret_of_others_that_comes_with_an_answer_is_decided_on():
    one = cluster()
    for revision, data in ((20, "b25l"), (21, "dHdv")):
        one.memory.unseen = False
        metadata = {"name": "theirs", "namespace": "mail", "uid": "4", "resourceVersion": str(revision)}
        one.seen("Secret", {"metadata": metadata, "type": "Opaque", "data": {"tls.key": data}})
        assert one.memory.unseen
    assert one.known.objects["Secret"]["theirs"]["data"] == {"tls.key": "dHdv"}


def test_an_answer_older_than_what_is_known_changes_nothing():
    assert not decides_again(certificate(9, generation=2))


def test_what_it_wrote_itself_is_decided_on():
    one = cluster()
    one.wrote("ConfigMap", {"metadata": {"name": "letterlock-default", "uid": "3", "resourceVersion": "11"}})
    assert one.memory.unseen
    assert "letterlock-default" in one.known.objects["ConfigMap"]


def test_what_was_done_to_objects_that_are_gone_is_forgotten():
    one = cluster()
    for kind, name in (("Certificate", "mx"), ("Certificate", "gone")):
        one.memory.settled[kind, name] = one.memory.settled[f"{kind}/status", name] = ("hash", 1)
        one.memory.said[kind, name] = (object(), object())
        one.memory.repairs[kind, name] = [1.0]
        one.memory.conflicts[kind, name] = FieldConflict(
            f"{kind}/{name}", "here", "kubectl", datetime.now(UTC)
        )
        one.quiet(kind, name, object())
    one.store.put("MailGateway", certificate(13, metadata={"name": "here"}))
    for kind in ("mount", "identity"):
        one.quiet(kind, "here", one)
        one.quiet(kind, "gone", one)
    one.memory.keep_only(one.known.objects)
    assert set(one.memory.settled) == {("Certificate", "mx"), ("Certificate/status", "mx")}
    for table in (one.memory.said, one.memory.repairs, one.memory.conflicts):
        assert set(table) == {("Certificate", "mx")}
    assert set(one.memory.quiet) == {("Certificate", "mx"), ("mount", "here"), ("identity", "here")}
