"""What ends a command: a message for the person at the terminal instead of a traceback."""


class CommandError(Exception):
    """The command cannot do what was asked; the message says why, and what to do. The exit status is 1."""
