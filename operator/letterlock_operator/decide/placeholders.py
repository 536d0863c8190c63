"""`{member}` and `{ordinal}` in what users write for each member (C9). Called by `certificates` and its parts."""

from typing import Final

_WORDS: Final = ("{member}", "{ordinal}")


def stand_in(text: str) -> bool:
    """Whether one of them stands in `text`."""
    return any(word in text for word in _WORDS)


def filled(text: str, member: str) -> str:
    """`text` for the member; as it is at Cluster level, where `member` is empty."""
    if not member:
        return text
    return text.replace("{member}", member).replace("{ordinal}", member.rpartition("-")[2])
