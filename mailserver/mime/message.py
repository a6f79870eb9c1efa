"""What a message is, once read: a tree of parts with their places in the octets."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mailserver.mime import words
from mailserver.mime.headers import HeaderBlock
from mailserver.mime.parameters import Parameters, get


class Part(NamedTuple):
    """One MIME entity (RFC 2045 §2.4).

    Invariants: a `multipart` has children; offsets count from the start of the whole message,
    header_start <= body_start <= body_end; a child lies inside its parent's body.
    """

    # IMAP's number (RFC 9051 §6.4.5.1). A multipart that is the whole message has none: "" for the
    # outermost, "n.TEXT" for the one inside message/rfc822 part n.
    section: str
    parent: int  # index into the parts of the outermost message, -1 for its root
    type: str  # lower case
    subtype: str  # lower case
    params: Parameters  # of Content-Type, decoded (RFC 2231)
    charset: str | None  # as RFC 8621 §4.1.4: implicit "us-ascii" for text, None otherwise
    encoding: str  # Content-Transfer-Encoding, lower case, "7bit" when absent
    disposition: str | None  # lower case
    disposition_params: Parameters
    content_id: bytes | None  # this and the next: raw, on one line
    description: bytes | None
    language: tuple[str, ...]  # RFC 3282
    location: str | None  # RFC 2557
    md5: bytes | None
    header_start: int
    body_start: int
    body_end: int
    lines: int  # line ends in the body; counted for text and message parts only
    children: tuple[Part, ...]
    message: Message | None  # of message/rfc822 and message/global that are not encoded

    def __repr__(self) -> str:
        """Show the part without what is in it: a tree shown at every node has no end."""
        place = f"{self.header_start}:{self.body_start}:{self.body_end}"
        return f"<Part {self.section!r} {self.type}/{self.subtype} {place}>"

    @property
    def name(self) -> str | None:
        """The decoded file name (RFC 8621 §4.1.4).

        QUIRK(mailers): encoded words in parameters, which RFC 2047 §5 forbids, are decoded.
        """
        if not self.disposition_params and not self.params:
            return None
        name = get(self.disposition_params, "filename") or get(self.params, "name")
        return words.decode(name.encode("utf-8", "replace")) or None if name else None


class Message(NamedTuple):
    """A message or an encapsulated one; it refers to the octets and does not hold them."""

    header: HeaderBlock
    root: Part
    parts: tuple[Part, ...]  # depth-first, those of encapsulated messages included

    def __repr__(self) -> str:
        """Show the root only, for the same reason as in `Part`."""
        return f"<Message of {len(self.parts)} parts, {self.root!r}>"


class PartRow(NamedTuple):
    """A part as it is stored: enough for FETCH sections and JMAP body parts without the message."""

    section: str
    parent: int
    type: str
    subtype: str
    charset: str | None
    encoding: str
    disposition: str | None
    name: str | None  # decoded
    cid: str | None  # without angle brackets
    language: tuple[str, ...]
    location: str | None
    header_start: int
    body_start: int
    body_end: int
    lines: int
    size: int  # octets after the transfer encoding is removed


class Located(Protocol):
    """What `Part` and `PartRow` share: name, type and place of a part."""

    @property
    def section(self) -> str:
        """IMAP's number."""
        ...

    @property
    def parent(self) -> int:
        """Index of the part around this one, -1 for none."""
        ...

    @property
    def type(self) -> str:
        """Media type."""
        ...

    @property
    def subtype(self) -> str:
        """Media subtype."""
        ...

    @property
    def header_start(self) -> int:
        """Where the part starts."""
        ...

    @property
    def body_start(self) -> int:
        """Where its body starts."""
        ...

    @property
    def body_end(self) -> int:
        """Where it ends."""
        ...
