"""What can go wrong with mail, in words of no protocol.

Each protocol maps these to its own replies, response codes or SetErrors in one table. The text is
for people who read logs; a peer sees only what the protocol's table says.
"""


class MailError(Exception):
    """Something the caller asked for cannot be done."""


class NotFound(MailError):
    """No object has that name or id, or the caller may not know that it exists."""


class AlreadyExists(MailError):
    """An object with that name exists."""


class Forbidden(MailError):
    """The caller is known but may not do this."""


class Invalid(MailError):
    """A value breaks a rule that the caller can read in the specification."""


class OverQuota(MailError):
    """The account has no room for this."""


class TooLarge(MailError):
    """The object is larger than the server takes."""


class TooMany(MailError):
    """A limit on the number of objects or of attempts is reached."""


class InUse(MailError):
    """The object still has parts that must go first."""


class CannotCalculateChanges(MailError):
    """The change log no longer reaches back to that state."""


class AuthenticationFailed(MailError):
    """The credentials are not those of an account."""


class Unavailable(MailError):
    """PostgreSQL or S3 cannot be reached now; the same request may succeed later."""


class Corrupt(MailError):
    """Stored data is not what was stored: a hash or a length differs."""


class ConfigurationError(MailError):
    """The configuration cannot be used; the text says which key and what to do."""


class WorkerFailed(MailError):
    """A worker does not start; the text says why, `code` is its exit code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code
