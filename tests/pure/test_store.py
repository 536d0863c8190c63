"""The operator's store: an object never goes back in time, and what a list does not show is gone."""

from typing import Any

from letterlock_operator.store import Store


def item(name: str, revision: int, namespace: str = "ns", uid: str = "1", **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(revision)},
        **more,
    }


def store() -> Store:
    new = Store()
    assert new.put("MailGateway", item("default", 10))
    return new


def test_namespaces_without_resources_of_ours_take_no_memory() -> None:
    known = Store()
    assert not known.put("Secret", item("a", 1))
    assert not known.active("ns")


def test_an_older_event_changes_nothing() -> None:
    known = store()
    assert known.put("Secret", item("a", 20, data={"x": "bmV3"}))
    assert not known.put("Secret", item("a", 15, data={"x": "b2xk"}))
    assert known.namespace("ns").objects["Secret"]["a"]["data"] == {"x": "bmV3"}


def test_an_event_from_before_a_list_does_not_bring_back_what_the_list_did_not_show() -> None:
    known = store()
    known.replace("ns", "Secret", [], 30)
    assert not known.put("Secret", item("a", 25))
    assert known.put("Secret", item("a", 31))


def test_a_list_removes_what_it_does_not_show_and_keeps_what_is_newer() -> None:
    known = store()
    known.put("Secret", item("old", 20))
    known.put("Secret", item("new", 40))
    assert known.replace("ns", "Secret", [], 30)
    assert set(known.namespace("ns").objects["Secret"]) == {"new"}


def test_the_end_of_a_namesake_is_not_the_end_of_the_object() -> None:
    known = store()
    known.put("Secret", item("a", 20, uid="2"))
    assert not known.remove("Secret", item("a", 21, uid="1"))
    assert known.remove("Secret", item("a", 22, uid="2"))


def test_of_foreign_derived_objects_only_their_being_there_is_kept() -> None:
    known = store()
    known.put("Service", item("a", 20, spec={"large": "thing"}))
    assert "spec" not in known.namespace("ns").objects["Service"]["a"]
