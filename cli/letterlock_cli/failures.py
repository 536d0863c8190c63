"""What ends a command: raised anywhere below it, printed by `main` as one line on stderr, exit status 1."""


class CommandError(Exception):
    """Something the user can do something about. The text is one line and says what."""
