"""LDAP filters with placeholders (RFC 4515): checked when a Listener is judged, filled in for every recipient.

Called by the operator's decisions and by members, so that both mean the same. Pure.
"""

import re
from typing import Final

import sansldap

_PLACEHOLDER: Final = re.compile(r"\{(.*?)\}")
_KNOWN: Final = frozenset("aud")
# RFC 4515 section 3: these stand for something; a NUL would end the value in many a server.
_ESCAPED: Final = {ord(letter): f"\\{ord(letter):02x}" for letter in "*()\\\0"}


def problem(template: str) -> str:
    """Why `template` is no filter, for people; empty: it is one."""
    unknown = [name for name in _PLACEHOLDER.findall(template) if name not in _KNOWN]
    if unknown:
        return f"{{{unknown[0]}}} is unknown: there are {{a}} address, {{u}} user, {{d}} domain"
    if not _PLACEHOLDER.search(template):
        return "it holds none of {a}, {u} and {d}, so it would say the same of every recipient"
    try:
        sansldap.LDAPFilter.from_string(filled(template, "user", "domain.example"))
    except (ValueError, RecursionError) as error:
        return f"it is no LDAP filter: {error}"
    return ""


def filled(template: str, local: str, domain: str) -> str:
    """The filter for `local@domain`; whatever stands in them is a value, and never a part of the filter."""
    values = {"a": f"{local}@{domain}", "u": local, "d": domain}
    return _PLACEHOLDER.sub(lambda found: escaped(values[found[1]]), template)


def escaped(value: str) -> str:
    """`value` as it stands in a filter (RFC 4515 section 3)."""
    return value.translate(_ESCAPED)
