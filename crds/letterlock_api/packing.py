"""`snapshot.json` as it lies in its ConfigMap: compressed where it is large, for an object ends at 1 MiB.

The operator packs, members and commands unpack; a snapshot's identity is the hash of what was packed. Small ones stay
text, which people read with kubectl and members of earlier versions take.
"""

import gzip
import zlib
from typing import Final

# What fits into an object as it is stays so: an object ends at 1 MiB, and the rest of a ConfigMap needs some of it.
PLAIN: Final = 1000 * 1024
# Far more than what fits into an object once it is packed; whoever may write ConfigMaps cannot fill our memory.
LARGEST: Final = 32 << 20
_MAGIC: Final = b"\x1f\x8b"  # RFC 1952 section 2.3.1; JSON begins otherwise


def pack(content: bytes) -> bytes:
    """`content` itself up to `PLAIN` bytes, else as gzip (RFC 1952); the same for the same."""
    # The level: a fifth of the time of level 6, and a tenth larger.
    return content if len(content) <= PLAIN else gzip.compress(content, compresslevel=1, mtime=0)


def is_packed(content: bytes) -> bool:
    """Whether `pack` has compressed it."""
    return content.startswith(_MAGIC)


def unpack(content: bytes) -> bytes:
    """What was packed. Raises ValueError where it is damaged, or larger than `LARGEST`."""
    if not is_packed(content):
        return content
    opened = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        found = opened.decompress(content, LARGEST)
    except zlib.error as error:
        raise ValueError(f"its compressed content is damaged: {error}") from error
    if not opened.eof:
        raise ValueError(f"its compressed content is cut off, or holds more than {LARGEST >> 20} MiB")
    return found
