"""Replies as values, and their bytes (RFC 5321 §4.2, RFC 2034)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """A code, an enhanced status code, and one or more lines of text."""

    code: int
    status: str  # "2.1.0" of RFC 3463; empty where RFC 2034 §4 wants none
    text: str
    more: tuple[str, ...] = ()  # further lines

    def __bytes__(self) -> bytes:
        """Return the reply as sent, every line with the code and the status."""
        status = f"{self.status} " if self.status else ""
        if not self.more:
            return f"{self.code} {status}{self.text}\r\n".encode()
        lines = (self.text, *self.more)
        last = len(lines) - 1
        return "".join(
            f"{self.code}{' ' if index == last else '-'}{status}{line}\r\n"
            for index, line in enumerate(lines)
        ).encode()

    @property
    def outcome(self) -> str:
        """Return what became of the command, as metrics and logs name it."""
        return {4: "later", 5: "refused"}.get(self.code // 100, "ok")


class Refused(Exception):
    """The command is answered with this reply and changes nothing."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.code, reply.status)
        self.reply = reply


OK = Reply(250, "2.0.0", "OK")
BYE = Reply(221, "2.0.0", "Bye")
START_DATA = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
SYNTAX = Reply(501, "5.5.4", "Syntax error in parameters")
UNKNOWN_COMMAND = Reply(500, "5.5.2", "Command not recognized")
BARE_LINE_FEED = Reply(500, "5.5.2", "Lines end with CR LF")
LINE_TOO_LONG = Reply(500, "5.5.2", "Line too long")
NOT_ASCII = Reply(500, "5.5.2", "Not ASCII, and not UTF-8 either")
BAD_SEQUENCE = Reply(503, "5.5.1", "Bad sequence of commands")
INTERNAL = Reply(451, "4.3.0", "Local error, try again later")
UNAVAILABLE = Reply(451, "4.3.2", "Service not available now, try again later")
SHUTTING_DOWN = Reply(421, "4.3.2", "Server shutting down, try again later")
TIMED_OUT = Reply(421, "4.4.2", "Timeout, closing connection")
SESSION_TOO_LONG = Reply(421, "4.4.2", "Session too long, connect again")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors, closing connection")
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "Too many connections, try again later")
TOO_BIG = Reply(552, "5.3.4", "Message too big")
NO_ROOM = Reply(452, "4.3.1", "Insufficient system storage, try again later")
NO_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")
TOO_EARLY = Reply(554, "5.5.1", "Clients wait for the greeting (RFC 5321 section 3.1)")


def greeting(hostname: str, protocol: str = "ESMTP") -> Reply:
    """Return what the server says first (RFC 5321 §4.3.1)."""
    return Reply(220, "", f"{hostname} {protocol}")
