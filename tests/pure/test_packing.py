"""A snapshot that is too large for an object as text is packed, and what is damaged or too large is no snapshot."""

import gzip
import random

import pytest

from letterlock_api import packing
from letterlock_api.snapshot import SNAPSHOT_FILE
from letterlock_operator import observe

SMALL = b'{"gateway":"default"}'
LARGE = b'{"gateway":"' + b"d" * packing.PLAIN + b'"}'


def test_what_fits_stays_text_and_what_does_not_is_packed_and_comes_out_the_same() -> None:
    assert packing.pack(SMALL) == SMALL
    packed = packing.pack(LARGE)
    assert packing.is_packed(packed)
    assert len(packed) < len(LARGE) // 10
    assert packing.pack(LARGE) == packed, "or it would be written again and again"
    assert [packing.unpack(one) for one in (SMALL, packed)] == [SMALL, LARGE]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_damaged_is_an_error_and_nothing_else(seed: int) -> None:
    chosen = random.Random(seed)
    packed = bytearray(packing.pack(LARGE))
    if seed % 2:
        del packed[chosen.randrange(3, len(packed)) :]
    else:
        packed[chosen.randrange(len(packed) - 8, len(packed))] ^= 0xFF  # its checksum, or its length
    with pytest.raises(ValueError, match="compressed content is"):
        packing.unpack(bytes(packed))


def test_a_small_file_that_would_fill_our_memory_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(packing.LARGEST + 1), mtime=0)
    with pytest.raises(ValueError, match="holds more than 32 MiB"):
        packing.unpack(bomb)


@pytest.mark.parametrize(
    ("item", "found"),
    [
        pytest.param(None, b"", id="no ConfigMap"),
        pytest.param({"data": {SNAPSHOT_FILE: "text"}}, b"text", id="text"),
        pytest.param({"binaryData": {SNAPSHOT_FILE: "dGV4dA=="}}, b"text", id="binary, not packed"),
        pytest.param({"binaryData": {SNAPSHOT_FILE: "H4sIAAA="}}, b"\x1f\x8b\x08\0\0", id="damaged"),
    ],
)
def test_a_config_map_is_read_however_it_holds_the_snapshot(item: dict[str, object] | None, found: bytes):
    assert observe.snapshot_in(item) == found
