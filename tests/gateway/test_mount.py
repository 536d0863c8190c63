"""What of a mount is taken, and what is refused and why."""

import json
import os
from pathlib import Path

import pytest

from letterlock_api import packing, state
from letterlock_api.snapshot import SNAPSHOT_FILE, content_hash
from letterlock_gateway import channel, mount, options
from letterlock_gateway.mount import MountedSet, MountEmpty, MountRefused
from tests.harness.certificates import Authority
from tests.harness.mounts import Files, Internal, Mount, destination, listener, snapshot


@pytest.fixture
def files() -> Files:
    made = Files()
    made.certificate(Authority().issue("mx.letterlock.example"))
    return made


def test_a_complete_set_is_read_with_all_its_files(tmp_path: Path, files: Files) -> None:
    mounted = Mount(tmp_path)
    expected = mounted.publish(snapshot(files), files)
    read = mount.read(tmp_path)
    assert (read.hash, dict(read.files)) == (expected, files.content)


def test_a_plain_directory_is_read_as_it_is(tmp_path: Path, files: Files) -> None:
    for name, content in {SNAPSHOT_FILE: snapshot(files).encode(), **files.content}.items():
        (tmp_path / name).write_bytes(content)
    assert mount.read(tmp_path).hash == snapshot(files).hash()


def test_files_that_the_snapshot_does_not_name_are_left_alone(tmp_path: Path, files: Files) -> None:
    mounted = Mount(tmp_path)
    mounted.publish(snapshot(), files)
    assert not mount.read(tmp_path).files


def test_the_hash_is_that_of_the_bytes_so_that_fields_of_a_newer_operator_do_not_change_it(
    tmp_path: Path,
) -> None:
    content = snapshot().encode()[:-1] + b',"fromTheFuture":1}'
    Mount(tmp_path).swap({SNAPSHOT_FILE: content})
    assert mount.read(tmp_path).hash == content_hash(content)


@pytest.mark.parametrize("exists", [True, False], ids=["an empty directory", "no directory"])
def test_no_snapshot_yet_is_nothing_wrong(tmp_path: Path, exists: bool) -> None:
    with pytest.raises(MountEmpty):
        mount.read(tmp_path if exists else tmp_path / "later")


def refused(directory: Path) -> MountRefused:
    with pytest.raises(MountRefused) as caught:
        mount.read(directory)
    assert not isinstance(caught.value, MountEmpty)
    return caught.value


def test_a_missing_file_refuses_the_set_by_name(tmp_path: Path, files: Files) -> None:
    expected = Mount(tmp_path).publish(snapshot(files))
    refusal = refused(tmp_path)
    assert refusal.hash == expected
    assert next(iter(files.content)) in refusal.reason


def test_a_file_with_other_content_than_its_name_promises_refuses_the_set(
    tmp_path: Path, files: Files
) -> None:
    (name,) = files.content
    files.content[name] += b"x"
    Mount(tmp_path).publish(snapshot(files), files)
    assert "promises" in refused(tmp_path).reason


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "Invalid JSON"),
        (b'{"listeners": []}', "gateway"),
        (b'{"gateway": "default", "format": 99}', "upgrade the members first"),
        (b'{"gateway": "default", "files": ["../secret-0.pem"]}', "no name of a file"),
    ],
    ids=["cut off", "a field is missing", "a format of the future", "a name that leads outside"],
)
def test_a_broken_snapshot_is_refused_with_its_hash_and_reason(
    tmp_path: Path, content: bytes, words: str
) -> None:
    Mount(tmp_path).swap({SNAPSHOT_FILE: content})
    refusal = refused(tmp_path)
    assert refusal.hash == content_hash(content)
    assert words in refusal.reason
    assert "\n" not in refusal.reason


def test_a_swap_while_the_set_is_read_gives_the_new_set_and_never_a_mixture(
    tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = Mount(tmp_path)
    mounted.publish(snapshot(files), files)
    later = Files()
    later.certificate(Authority().issue("later.letterlock.example"))
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        content = real(path)
        if path.name == SNAPSHOT_FILE and content == snapshot(files).encode():
            mounted.publish(snapshot(later), later)
        return content

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    read = mount.read(tmp_path)
    assert (read.hash, dict(read.files)) == (snapshot(later).hash(), later.content)


def test_the_fingerprint_changes_with_a_swap_and_with_nothing_else(tmp_path: Path) -> None:
    mounted = Mount(tmp_path)
    assert mount.fingerprint(tmp_path / "later") is None
    mounted.publish(snapshot())
    first = mount.fingerprint(tmp_path)
    assert mount.fingerprint(tmp_path) == first
    mounted.publish(snapshot(max_hops=20))
    assert mount.fingerprint(tmp_path) != first


def test_the_identity_is_there_only_as_a_whole(tmp_path: Path) -> None:
    internal = Internal()
    content = internal.member_files()
    Mount(tmp_path / "whole").swap(content)
    Mount(tmp_path / "half").swap({state.INTERNAL_CA_FILE: content[state.INTERNAL_CA_FILE]})
    whole = mount.read_identity(tmp_path / "whole")
    assert whole is not None
    assert whole.certificate == content[state.INTERNAL_CERTIFICATE_FILE]
    assert mount.read_identity(tmp_path / "half") is None


def test_a_set_goes_over_the_channel_unchanged(tmp_path: Path, files: Files) -> None:
    Mount(tmp_path).publish(snapshot(files, listeners=[listener(2525)]), files)
    read: MountedSet = mount.read(tmp_path)
    encoded = channel.set_message(read.content, read.files)
    content, over = channel.set_in(json.loads(encoded[4:]))
    assert mount.assemble(content, over) == read


def test_options_default_to_the_ports_of_the_contract() -> None:
    parsed = options.parse(["--mount", "/m", "--spool", "/s", "--member", "default-0"])
    assert (parsed.state_port, parsed.health_port) == (state.STATE_PORT, state.HEALTH_PORT)
    assert options.Options.from_json(parsed.to_json()) == parsed
    assert parsed.worker_count() >= 1


def test_low_ports_are_moved_and_wildcard_addresses_replaced_only_where_asked() -> None:
    given = options.Options(
        mount=Path(), spool=Path(), member="m-0", address="127.0.0.9", low_port_offset=10000
    )
    assert (given.bind_port(25), given.bind_port(2525)) == (10025, 2525)
    assert [given.bind_address(one) for one in ("", "0.0.0.0", "::", "192.0.2.1")] == [
        "127.0.0.9",
        "127.0.0.9",
        "127.0.0.9",
        "192.0.2.1",
    ]
    plain = options.Options(mount=Path(), spool=Path(), member=os.uname().nodename)
    assert (plain.bind_port(25), plain.bind_address("0.0.0.0")) == (25, "0.0.0.0")


def test_a_packed_snapshot_is_taken_under_the_hash_of_what_was_packed(tmp_path: Path, files: Files) -> None:
    many = [
        destination("*"),
        *(destination(f"{'long' * 15}-{n}.example", resource=f"d{n}") for n in range(14000)),
    ]
    taken = snapshot(files, destinations=many)
    packed = packing.pack(taken.encode())
    assert packing.is_packed(packed)
    Mount(tmp_path).swap({SNAPSHOT_FILE: packed, **files.content})
    read = mount.read(tmp_path)
    assert (read.hash, read.content, read.snapshot) == (taken.hash(), taken.encode(), taken)


def test_a_damaged_packed_snapshot_is_refused_by_its_own_hash(tmp_path: Path) -> None:
    damaged = packing.pack(b" " * (packing.PLAIN + 1))[:-3]
    Mount(tmp_path).swap({SNAPSHOT_FILE: damaged})
    assert "cut off" in refused(tmp_path).reason
    assert refused(tmp_path).hash == content_hash(damaged)
