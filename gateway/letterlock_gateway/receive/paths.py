"""Reverse-path and forward-path of MAIL and RCPT (RFC 5321 section 4.1.2, RFC 6531 section 3.3). Pure.

Strict where it matters for safety: what is taken here can be written into a command of the next hop as it
stands. Tolerated, because real senders need it: underscores in domains, local parts over 64 octets.
"""

import ipaddress
import re
from functools import lru_cache
from typing import Final

from letterlock_gateway import values

# RFC 5321 section 4.5.3.1.3 says 256 octets; generated senders (VERP, SRS) go beyond.
_MAX_LENGTH: Final = 320
_MAX_DOMAIN: Final = 255
_MAX_LABEL: Final = 63
_BEYOND: Final = "\u00a1-\U0010ffff"  # UTF-8 of RFC 6531, without C1 controls and the no-break space
_ATOM: Final = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{_BEYOND}-]+"
_DOT_STRING: Final = rf"{_ATOM}(?:\.{_ATOM})*"
_QUOTED: Final = rf'"(?:[\x20\x21\x23-\x5b\x5d-\x7e{_BEYOND}]|\\[\x20-\x7e])*"'
_DOMAIN: Final = rf"[A-Za-z0-9_.{_BEYOND}-]+"
_LITERAL: Final = r"\[[A-Za-z0-9.:]+\]"
_PATH: Final = re.compile(
    rf"<(?:(?:@{_DOMAIN}(?:,@{_DOMAIN})*:)?"
    rf"(?P<local>{_DOT_STRING}|{_QUOTED})(?:@(?P<domain>{_DOMAIN}|{_LITERAL}))?)?>"
)
_IS_DOT_STRING: Final = re.compile(_DOT_STRING)
_SPECIAL: Final = re.compile(r'["\\]')


@values.value
class Path:
    """An address as it was given, without source route."""

    local: str
    """Local part, unquoted; empty together with `domain`: the null sender."""
    domain: str
    """As written; empty: none was given. An address literal keeps its brackets."""

    @property
    def address(self) -> str:
        """The address as the next hop gets it: quoted only where it must be."""
        local = self.local
        if local and not _IS_DOT_STRING.fullmatch(local):
            local = '"' + _SPECIAL.sub(r"\\\g<0>", local) + '"'
        return f"{local}@{self.domain}" if self.domain else local


def parse(text: str) -> tuple[Path, str] | None:
    """The path that `text` begins with, and what follows it; None where there is no valid one.

    A source route is taken off (RFC 5321 section 3.6.1 and appendix C): only the final address counts for
    anything.
    """
    match = _PATH.match(text)
    if match is None or match.end() > _MAX_LENGTH:
        return None
    local, domain = match["local"] or "", match["domain"] or ""
    if domain and (len(domain) > _MAX_DOMAIN or not _is_domain(domain)):
        return None
    if local.startswith('"'):
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
        if not local:
            return None
    return Path(local, domain), text[match.end() :]


@lru_cache(1024)  # 255 letters each at most, and the same ones again and again
def _is_domain(domain: str) -> bool:
    if domain.startswith("["):
        try:
            literal = domain[1:-1]
            if literal[:5].lower() == "ipv6:":
                ipaddress.IPv6Address(literal[5:])
            else:
                ipaddress.IPv4Address(literal)
        except ValueError:
            return False
        return True
    return all(0 < len(label) <= _MAX_LABEL and label[0] != "-" != label[-1] for label in domain.split("."))
