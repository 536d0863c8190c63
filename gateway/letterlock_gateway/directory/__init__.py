"""Which recipients a directory (LDAP, RFC 4511) knows: asked at RCPT by listeners with an `acceptQuery`.

A yes or a no is only what a server said that proved who it is; whatever else happens is `Unavailable`.
"""

from letterlock_gateway.directory.directories import Directories, Directory
from letterlock_gateway.directory.settings import Settings, Unavailable

__all__ = ["Directories", "Directory", "Settings", "Unavailable"]
