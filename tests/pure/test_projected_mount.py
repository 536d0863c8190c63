"""The stand-in kubelet's mount looks and changes as a real kubelet's does."""

from pathlib import Path

from tests.harness.kubelet import project


def seen(mount: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in mount.iterdir() if not path.name.startswith("..")}


def test_files_are_links_through_the_data_link(tmp_path: Path) -> None:
    project({"a": b"1", "b": b"2"}, tmp_path)
    assert seen(tmp_path) == {"a": b"1", "b": b"2"}
    assert (tmp_path / "a").readlink() == Path("..data/a")
    assert (tmp_path / "..data").readlink().name.startswith("..20")


def test_a_change_comes_at_one_stroke_and_the_old_folder_goes(tmp_path: Path) -> None:
    project({"a": b"1", "b": b"2"}, tmp_path)
    before = (tmp_path / "..data").readlink()
    project({"a": b"3", "c": b"4"}, tmp_path)
    assert (tmp_path / "..data").readlink() != before
    assert not (tmp_path / before).exists()
    assert seen(tmp_path) == {"a": b"3", "c": b"4"}
    assert not (tmp_path / "b").is_symlink()


def test_the_same_files_leave_everything_as_it_is(tmp_path: Path) -> None:
    project({"a": b"1"}, tmp_path)
    before = (tmp_path / "..data").readlink()
    project({"a": b"1"}, tmp_path)
    assert (tmp_path / "..data").readlink() == before
