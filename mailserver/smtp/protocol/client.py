"""The client's side of SMTP without I/O: replies out of bytes, extensions, one mail transaction.

What a server says is bytes from a stranger: lines and replies are bounded, and what is not a reply
ends the conversation (RFC 5321 §4.2).
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from mailserver.address import normal_domain
from mailserver.errors import Invalid

MAX_LINE = 4096  # octets; RFC 5321 §4.5.3.1.5 asks for 512
MAX_LINES = 200  # of one reply
MAX_TEXT = 1000  # characters of a reply that are kept
CHUNK = 256 * 1024  # octets of a message that are sent at a time
EAGER = 64 * 1024  # octets of a message that is sent before its recipients are accepted
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?\Z", re.DOTALL)
_STATUS = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?: |\Z)")
_DOT = re.compile(rb"\r\n\.")  # finds the few of a message four times as fast as replace does
_UNSENDABLE = re.compile(r"[\x00-\x20\x7f<>]")
_LOCAL_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f]")


class NotSmtp(Exception):
    """The server said something that is no reply; the text says what."""


class Unsendable(Exception):
    """The server lacks what this message or address needs; nothing was said to it.

    `status` is the enhanced status code of a final failure.
    """

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class ServerReply:
    """What a server said."""

    code: int
    lines: tuple[str, ...]

    @property
    def positive(self) -> bool:
        """Whether the command was done, or may go on."""
        return self.code < 400

    @property
    def permanent(self) -> bool:
        """Whether the same command will never be done."""
        return self.code >= 500

    @property
    def status(self) -> str:
        """Return the enhanced status code, one made of the code when it has none (RFC 3463)."""
        match = _STATUS.match(self.lines[0]) if self.lines else None
        if match and match[1] == str(self.code)[0]:
            return f"{match[1]}.{match[2]}.{match[3]}"
        return f"{self.code // 100}.0.0"

    def __str__(self) -> str:
        """Return the reply on one line, as it is shown and stored."""
        words: list[str] = []
        prefix = f"{self.status} "
        for index, line in enumerate(self.lines):
            words.append(line.removeprefix(prefix) if index else line)
        text = " ".join(" ".join(words).split())
        return f"{self.code} {text}"[:MAX_TEXT].rstrip()


class ReplyBuffer:
    """Bytes of a server, and the replies in them."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._lines: list[str] = []
        self._code = b""
        self._replies: deque[ServerReply] = deque()

    @property
    def pending(self) -> bool:
        """Whether the server said more than was asked for."""
        return bool(self._buffer or self._lines or self._replies)

    def feed(self, data: bytes) -> None:
        """Add bytes; NotSmtp when they are no replies."""
        buffer = self._buffer
        buffer += data
        start = 0
        while (end := buffer.find(b"\n", start)) >= 0:
            self._line(bytes(buffer[start:end]).removesuffix(b"\r"))
            start = end + 1
        del buffer[:start]
        if len(buffer) > MAX_LINE:
            raise NotSmtp("a line of a reply is too long")

    def next(self) -> ServerReply | None:
        """Take the next whole reply; None when there is none yet."""
        return self._replies.popleft() if self._replies else None

    def _line(self, line: bytes) -> None:
        match = _LINE.match(line)
        if match is None or len(line) > MAX_LINE or len(self._replies) > MAX_LINES:
            raise NotSmtp("not a reply")
        code, more, text = match.groups()
        if self._lines and code != self._code:
            raise NotSmtp("the lines of a reply have different codes")
        self._code = code
        self._lines.append(_printable(text or b""))
        if more != b"-":
            self._replies.append(ServerReply(int(code), tuple(self._lines)))
            self._lines = []
        elif len(self._lines) >= MAX_LINES:
            raise NotSmtp("a reply has too many lines")


def _printable(text: bytes) -> str:
    decoded = text.decode("utf-8", "replace")
    if decoded.isprintable():
        return decoded[:MAX_TEXT]
    return "".join(char if char.isprintable() else " " for char in decoded)[:MAX_TEXT]


@dataclass(frozen=True, slots=True)
class Extensions:
    """What a server offered in its answer to EHLO (RFC 5321 §4.1.1.1)."""

    names: dict[str, str] = field(default_factory=dict)  # keyword in upper case: parameters

    @classmethod
    def of(cls, reply: ServerReply) -> "Extensions":
        """Read the answer to EHLO; its first line is a greeting."""
        names: dict[str, str] = {}
        for line in reply.lines[1:]:
            keyword, _, parameters = line.strip().partition(" ")
            # QUIRK(old Microsoft and others): AUTH=LOGIN beside AUTH LOGIN
            if keyword.upper().startswith("AUTH="):
                keyword, parameters = "AUTH", f"{keyword[5:]} {parameters}"
            before = names.get(keyword.upper())
            joined = (
                f"{before} {parameters}" if before and keyword.upper() == "AUTH" else parameters
            )
            names[keyword.upper()] = joined
        return cls(names)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.names

    @property
    def size(self) -> int | None:
        """Return the octets that a message may have; None without a limit (RFC 1870 §4)."""
        words = self.names.get("SIZE", "").split()
        limit = int(words[0]) if words and words[0].isascii() and words[0].isdigit() else 0
        return limit or None

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """Return the mechanisms of AUTH (RFC 4954 §3)."""
        return tuple(self.names.get("AUTH", "").upper().split())

    def limit(self, name: str) -> int | None:
        """Return a limit the server keeps, RCPTMAX or MAILMAX (RFC 9422 §4)."""
        for word in self.names.get("LIMITS", "").split():
            key, _, value = word.partition("=")
            if key.upper() == name and value.isascii() and value.isdigit() and len(value) < 7:
                return int(value) or None
        return None


@dataclass(frozen=True, slots=True)
class RecipientLine:
    """One recipient and its wishes (RFC 3461 §4)."""

    path: str
    notify: str | None = None
    orcpt: str | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """The envelope of one transaction."""

    sender: str  # empty: the null reverse-path
    recipients: tuple[RecipientLine, ...]
    size: int
    eight_bit: bool = False  # the body has octets above 127
    smtputf8: bool = False  # a header has them, or an address that cannot do without
    envid: str | None = None
    ret: str | None = None
    require_tls: bool = False
    by: int | None = None  # seconds that are left to deliver it, of BY (RFC 2852)
    by_mode: str = ""  # R or N, and T
    priority: int = 0  # RFC 6710


def mail_line(envelope: Envelope, extensions: Extensions) -> bytes:
    """Return MAIL with the parameters that the server knows; Unsendable when it lacks one."""
    words = [f"MAIL FROM:<{path(envelope.sender, envelope.smtputf8)}>"]
    if "SIZE" in extensions:
        words.append(f"SIZE={envelope.size}")
    if envelope.eight_bit and "8BITMIME" in extensions:
        words.append("BODY=8BITMIME")
    if envelope.smtputf8:
        if "SMTPUTF8" not in extensions:
            raise Unsendable("5.6.7", "The other server does not take internationalised mail")
        words.append("SMTPUTF8")
    if envelope.require_tls:
        if "REQUIRETLS" not in extensions:
            raise Unsendable("5.7.30", "The other server does not offer REQUIRETLS")
        words.append("REQUIRETLS")
    words += _deliver_by(envelope, extensions)
    if envelope.priority and "MT-PRIORITY" in extensions:
        words.append(f"MT-PRIORITY={envelope.priority}")
    wishes = (("RET", envelope.ret), ("ENVID", envelope.envid)) if "DSN" in extensions else ()
    words += [f"{name}={_word(value)}" for name, value in wishes if value]
    return f"{' '.join(words)}\r\n".encode()


def _deliver_by(envelope: Envelope, extensions: Extensions) -> list[str]:
    """Return BY with the time that is left; Unsendable where mail must go back rather than wait.

    A server that does not know the extension may keep a message for days, so one that has to be
    returned in time is not given to it (RFC 2852 §4.2).
    """
    if envelope.by is None:
        return []
    returns = envelope.by_mode.startswith("R")
    if returns and envelope.by <= 0:
        raise Unsendable("5.4.7", "The time in which it had to be delivered is over")
    if "DELIVERBY" not in extensions:
        if returns:
            raise Unsendable("5.3.3", "The other server does not promise to deliver it in time")
        return []
    shortest = extensions.names["DELIVERBY"].strip()
    if returns and shortest.isascii() and shortest.isdigit() and envelope.by < int(shortest[:9]):
        raise Unsendable("5.4.7", f"The other server needs {shortest[:9]} seconds to deliver it")
    return [f"BY={envelope.by};{envelope.by_mode}"]


def rcpt_line(recipient: RecipientLine, envelope: Envelope, extensions: Extensions) -> bytes:
    """Return RCPT with the wishes that the server takes over."""
    words = [f"RCPT TO:<{path(recipient.path, envelope.smtputf8)}>"]
    if "DSN" in extensions:
        if recipient.notify:
            words.append(f"NOTIFY={_word(recipient.notify)}")
        if recipient.orcpt:
            words.append(f"ORCPT={_word(recipient.orcpt)}")
    return f"{' '.join(words)}\r\n".encode()


def path(text: str, smtputf8: bool) -> str:
    """Return a mailbox as it is sent: a domain in A-labels when that makes it ASCII."""
    if not text:
        return ""
    local, at, domain = text.rpartition("@")
    if not at or _UNSENDABLE.search(domain) or not local or _LOCAL_UNSENDABLE.search(local):
        raise Unsendable("5.1.3", "The address cannot be sent")
    if local[0] != '"' and _UNSENDABLE.search(local):
        raise Unsendable("5.1.3", "The address cannot be sent")
    if text.isascii() or smtputf8:
        return text
    if not local.isascii():
        raise Unsendable("5.6.7", "The address needs SMTPUTF8")
    try:
        return f"{local}@{normal_domain(domain)}"
    except Invalid:
        raise Unsendable("5.1.3", "The domain is no domain name") from None


def needs_smtputf8(sender: str, recipients: Sequence[str], header_is_ascii: bool) -> bool:
    """Tell whether mail cannot do without SMTPUTF8: domains alone can (RFC 6531 §3.2)."""
    locals_ = (address.rpartition("@")[0] for address in (sender, *recipients))
    return not header_is_ascii or not all(local.isascii() for local in locals_)


def _word(text: str) -> str:
    if _UNSENDABLE.search(text) or not text.isascii():
        raise Unsendable("5.5.4", "A parameter cannot be sent")
    return text


class Step(Enum):
    """A thing that a client says in a transaction, and that is answered by one reply."""

    RSET = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    CONTENT = auto()  # the message and its end; or BDAT with the message


class Transaction:
    """One mail transaction: what to send next, and what the replies mean.

    `send` gives the steps to send now; each is answered by one reply, in order, which goes to
    `take`. When `send` gives nothing more and nothing is awaited, the transaction is over.
    """

    def __init__(self, envelope: Envelope, extensions: Extensions, *, reset: bool = False) -> None:
        """Work out what is said; Unsendable before anything is."""
        self.envelope = envelope
        self.extensions = extensions
        self.chunking = "CHUNKING" in extensions
        self._pipelining = "PIPELINING" in extensions
        self.sender: ServerReply | None = None
        self.recipients: list[ServerReply] = []
        self.data: ServerReply | None = None
        self.final: ServerReply | None = None  # to the content
        self.content_sent = False
        self._awaited: deque[Step] = deque()
        self._mail = mail_line(envelope, extensions)
        self._rcpt = deque(
            [rcpt_line(recipient, envelope, extensions) for recipient in envelope.recipients]
        )
        self._todo: deque[Step] = deque([Step.RSET] if reset else [])
        self._todo += [Step.MAIL, *(Step.RCPT for _ in envelope.recipients)]
        self._todo += [Step.CONTENT] if self.chunking else [Step.DATA, Step.CONTENT]

    @property
    def awaits(self) -> Step | None:
        """Return the step whose reply comes next."""
        return self._awaited[0] if self._awaited else None

    @property
    def open(self) -> bool:
        """Whether the server still has a transaction of ours, which RSET ends."""
        return self.final is None

    def send(self) -> list[Step]:
        """Return the steps to send now; with PIPELINING all up to where a reply is needed."""
        steps: list[Step] = []
        while self._todo and not (self._awaited and not self._pipelining):
            step = self._todo[0]
            if not self._may(step):
                break
            self._todo.popleft()
            if self._skips(step):
                continue
            steps.append(step)
            self._awaited.append(step)
            if step is Step.CONTENT:
                self.content_sent = True
        return steps

    def line(self, step: Step) -> bytes:
        """Return the command of a step that `send` gave, but for the message itself."""
        if step is Step.RCPT:
            return self._rcpt.popleft()
        if step is Step.MAIL:
            return self._mail
        if step is Step.DATA:
            return b"DATA\r\n"
        if step is Step.RSET:
            return b"RSET\r\n"
        return f"BDAT {self.envelope.size} LAST\r\n".encode() if self.chunking else b""

    @property
    def sends_message(self) -> bool:
        """Whether the content is the message: it is none when no recipient was accepted."""
        return self.chunking or self._accepted

    def take(self, reply: ServerReply) -> None:
        """Take the reply to the oldest step without one."""
        step = self._awaited.popleft()
        if step is Step.MAIL:
            self.sender = reply
        elif step is Step.RCPT:
            self.recipients.append(reply)
        elif step is Step.DATA:
            self.data = reply
        elif step is Step.CONTENT:
            self.final = reply

    @property
    def _accepted(self) -> bool:
        return any(reply.positive for reply in self.recipients)

    def _may(self, step: Step) -> bool:
        """Tell whether a step can be said before the replies to those that were sent."""
        if not self._awaited or step in (Step.RSET, Step.MAIL, Step.RCPT, Step.DATA):
            return True
        return self.chunking and self.envelope.size <= EAGER

    def _skips(self, step: Step) -> bool:
        """Tell whether a step has no sense any more, after the replies so far."""
        if step in (Step.RSET, Step.MAIL):
            return False
        if self.sender is not None and not self.sender.positive:
            return True
        if step is Step.CONTENT and not self.chunking:
            return self.data is None or self.data.code != 354
        if step is Step.RCPT or self._awaited:
            return False
        return not self._accepted

    def verdicts(self) -> list[ServerReply]:
        """Return the reply that decides on each recipient, once the transaction is over."""
        assert self.sender is not None
        if not self.sender.positive:
            return [self.sender for _ in self.envelope.recipients]
        end = self.final or self.data
        return [end if reply.positive and end is not None else reply for reply in self.recipients]


def stuffed(content: bytes) -> Iterator[bytes]:
    """Give a message as DATA carries it, a piece at a time, with its end (RFC 5321 §4.5.2)."""
    if content.startswith(b"."):
        yield b"."
    position = 0
    while position < len(content):
        end = min(position + CHUNK, len(content))
        # a piece never ends between the line end and the dot that may follow
        while end < len(content) and content[end - 1] in b"\r\n":
            end += 1
        piece = content[position:end]
        # base64, of which large messages are mostly made, has no dot at all
        yield _DOT.sub(b"\r\n..", piece) if b"." in piece else piece
        position = end
    yield b".\r\n" if not content or content.endswith(b"\r\n") else b"\r\n.\r\n"


def chunks(content: bytes) -> Iterator[bytes]:
    """Give a message as BDAT carries it, a piece at a time (RFC 3030 §2)."""
    for position in range(0, len(content), CHUNK):
        yield content[position : position + CHUNK]


def joined(first: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Put small pieces together, so that a small message is one write."""
    waiting = first
    for piece in pieces:
        if len(waiting) + len(piece) > CHUNK:
            yield waiting
            waiting = piece
        else:
            waiting += piece
    yield waiting
