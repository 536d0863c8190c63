"""Who looks at a page, and of what it is: what every template is given. Made by `site`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Visit:
    """One request of somebody who is signed in."""

    user: str
    number: str
    """Of the session, or of the certificate: what forms are bound to."""
    proof: str
    """For forms (CSRF)."""
    by_password: bool
    path: str
    gateway: str
    namespace: str
    member: str
    """That was asked."""
    several: bool
    """Whether the gateway has more of them."""
    demo: bool
    """Whether the pages are served with the demo certificate (C8)."""
    now: float
    """Unix seconds."""
