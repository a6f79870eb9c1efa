"""How the program ends: exit codes that scripts may rely on."""

from enum import IntEnum

from mailserver.errors import ConfigurationError, MailError, Unavailable, WorkerFailed


class Exit(IntEnum):
    """The exit codes of every command; listed in docs/operate.md."""

    OK = 0
    FAILED = 1  # a problem was found, or the command could not do what it was asked
    USAGE = 2  # the command line is wrong
    CONFIGURATION = 3  # the configuration is wrong or something is not installed
    UNAVAILABLE = 4  # PostgreSQL or S3 cannot be reached


def exit_code(error: BaseException) -> Exit:
    """Return the exit code for an error."""
    if isinstance(error, WorkerFailed):
        return Exit(error.code) if error.code in set(Exit) else Exit.FAILED
    if isinstance(error, ConfigurationError):
        return Exit.CONFIGURATION
    if isinstance(error, Unavailable):
        return Exit.UNAVAILABLE
    return Exit.FAILED


def reason(error: BaseException) -> str:
    """Say what happened, for a person; an error that nobody foresaw also shows its kind."""
    if isinstance(error, MailError):
        return str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"
