"""What goes wrong in a spool, as its callers hear of it."""


class SpoolFailed(Exception):  # noqa: N818 - says what happened, as our other exceptions do
    """A change could not be written, and nothing of it is there. The text is for the log, not for peers."""


class SpoolFull(SpoolFailed):
    """There is too little room on the disk for new messages; what is there goes on being delivered."""


class SpoolClosed(SpoolFailed):
    """The spool has been closed."""
