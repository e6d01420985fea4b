"""The one exception for a user's mistake. Imports nothing."""


class UserError(Exception):
    """Something the user can put right, told in one line: what went wrong, where, what to do.

    The command line prints it without a traceback and exits with `exit_code`: 1 when the work failed,
    2 when the call itself was wrong (an unknown preset, a malformed option).
    """

    def __init__(self, message: str, *, exit_code: int = 1):
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code


class UsageError(UserError):
    """A call that could not have worked on any machine: exit code 2."""

    def __init__(self, message: str):
        super().__init__(message, exit_code=2)
