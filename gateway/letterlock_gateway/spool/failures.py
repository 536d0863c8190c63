"""What goes wrong in a spool, as its callers hear of it."""


class SpoolFailed(Exception):  # noqa: N818 - says what happened, as our other exceptions do
    """A change could not be written, and nothing of it is there. The text is for the log, not for peers."""


class SpoolClosed(SpoolFailed):
    """The spool has been closed."""
