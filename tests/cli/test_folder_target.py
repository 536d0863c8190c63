"""Manifests in a folder: new files, edits in place, nothing overwritten, Secrets for their owner alone."""

from pathlib import Path
from typing import Any

import pytest

from letterlock_cli.failures import CommandError
from letterlock_cli.folder_target import FolderTarget
from letterlock_cli.targets import keep, manifest
from letterlock_cli.up import folder as manifests
from tests.certificates.programs import pair
from tests.cli.commands import letterlock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mail"
    made.mkdir()
    return made


def there(folder: Path) -> FolderTarget:
    return FolderTarget(folder)


def test_a_new_manifest_gets_a_file_and_never_the_place_of_another(folder: Path):
    (folder / "certificate-mx.yaml").write_text("# a note\n")
    said = there(folder).create(manifest("Certificate", "mx", {"days": 3}))
    assert said == f"Certificate/mx written to {folder}/certificate-mx-2.yaml"
    assert (folder / "certificate-mx.yaml").read_text() == "# a note\n"
    assert there(folder).find("Certificate", "mx") == manifest("Certificate", "mx", {"days": 3})
    with pytest.raises(CommandError, match=r"there already, in .*certificate-mx-2\.yaml"):
        there(folder).create(manifest("Certificate", "mx", {}))


def test_an_edit_keeps_link_mode_and_comments(folder: Path, tmp_path: Path):
    real = tmp_path / "elsewhere.yaml"
    real.write_text(
        "# kept\napiVersion: letterlock.dev/v1alpha1\nkind: Certificate\nmetadata: {name: mx}\nspec: {}\n"
    )
    real.chmod(0o640)
    (folder / "mx.yaml").symlink_to(real)
    there(folder).change("Certificate", "mx", lambda one: one["spec"].update(days=5))
    assert (folder / "mx.yaml").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert real.read_text().startswith("# kept\n")
    assert there(folder).find("Certificate", "mx")["spec"] == {"days": 5}  # pyright: ignore[reportOptionalSubscript]
    assert [path.name for path in folder.iterdir()] == ["mx.yaml"], "no scratch file stays"


def test_an_edit_that_changes_nothing_writes_nothing(folder: Path):
    file = folder / "mx.yaml"
    file.write_text(
        "apiVersion: letterlock.dev/v1alpha1\nkind: Certificate\nmetadata: {name: mx}\nspec:   {days: 5}\n"
    )
    before = file.stat().st_mtime_ns, file.read_text()
    assert "unchanged" in there(folder).change("Certificate", "mx", lambda one: one["spec"].update(days=5))
    assert (file.stat().st_mtime_ns, file.read_text()) == before


def test_a_secret_is_for_its_owner_alone_and_others_are_never_taken_over(folder: Path):
    target = there(folder)
    keep(target, "Secret", "mx-pkcs12", {"file": b"\0\1", "passphrase": b""}, {"a": "b"})
    file = folder / "secret-mx-pkcs12.yaml"
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    keep(target, "Secret", "mx-pkcs12", {"file": b"\2"}, {})
    assert file.stat().st_mode & 0o777 == 0o600
    found: Any = target.find("Secret", "mx-pkcs12")
    assert found["data"] == {"file": "Ag=="}
    target.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}, "data": {}})
    with pytest.raises(CommandError, match="NameTaken"):
        keep(target, "ConfigMap", "theirs", {"a": b"b"}, {})


def test_a_file_that_is_no_yaml_is_named_and_passed_over(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "a.yaml").write_text("{")
    there(folder).create(manifest("Certificate", "mx", {}))
    assert "a.yaml cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("spec", ["[1]", "1", "{certificates: [1]}"])
def test_a_manifest_that_makes_no_sense_is_refused_in_one_line(folder: Path, tmp_path: Path, spec: str):
    _, certificate = pair(tmp_path)
    file = folder / "mx.yaml"
    text = f"apiVersion: letterlock.dev/v1alpha1\nkind: CAList\nmetadata: {{name: mx}}\nspec: {spec}\n"
    file.write_text(text)
    assert "CAList/mx: spec" in letterlock("calist", "import", "mx", certificate, "--dir", folder).error
    assert file.read_text() == text


def test_a_manifest_without_a_name_is_no_manifest(folder: Path):
    (folder / "mx.yaml").write_text("apiVersion: letterlock.dev/v1alpha1\nkind: CAList\nmetadata: mx\n")
    assert there(folder).find("CAList", "mx") is None


def test_no_key_is_taken_twice(folder: Path, tmp_path: Path):
    """As with kubectl: of two blocks of one name one would be lost, and with it the TLS that it asked for."""
    file = folder / "a.yaml"
    head = "apiVersion: letterlock.dev/v1alpha1\nkind: DestinationControl\nmetadata: {name: a}\nspec:\n"
    good = f"{head}  domains: [a.example]\n  tls: {{mode: Required}}\n"
    file.write_text(good)
    assert not manifests.read(folder, tmp_path / "kept").problems
    file.write_text(f"{good}  limits: {{connections: 5}}\n  tls: {{minVersion: TLSv1}}\n")
    found = manifests.read(folder, tmp_path / "kept")
    assert [one.problem for one in found.problems] == [
        "is not YAML: line 8: tls is there twice: keep one of them"
    ]
    [kept] = found.resources.values()
    assert kept.spec.tls.mode == "Required", "what was good before goes on counting"  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
