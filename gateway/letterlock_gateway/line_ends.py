"""Whether a text could smuggle: the one question about its octets that takes time, asked as fast as CPython can.

Called by `receive.data` for what comes in and by `deliver.envelopes` for what goes out. Pure.
"""

from io import IncrementalNewlineDecoder


def all_are_crlf(octets: bytes) -> bool:
    """Whether each CR in `octets` has its LF behind it and each LF its CR before it (RFC 5321 section 2.3.8).

    What the io module has for universal newlines notes in one pass which line ends there are, without making lines of
    them: 0.6 ns an octet, where to count CRLF, CR and LF took 2.1. Latin-1, since there each octet is one character.
    """
    seen = IncrementalNewlineDecoder(None, translate=False)
    seen.decode(octets.decode("latin-1"), final=True)
    return seen.newlines in {None, "\r\n"}
