"""What one FETCH needs, and the messages of which it is made, chunk by chunk."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mailserver.imap.commands import fetch_texts
from mailserver.imap.commands.fetch_texts import STORED
from mailserver.imap.protocol.fetch import Attribute, Binary, Item, Section
from mailserver.mime import Env, PartRow
from mailserver.model import Email

TEMPLATES = {
    Attribute.UID: b"UID %d",
    Attribute.FLAGS: b"FLAGS (%b)",
    Attribute.INTERNALDATE: b'INTERNALDATE "%b"',
    Attribute.SIZE: b"RFC822.SIZE %d",
    Attribute.ENVELOPE: b"ENVELOPE %b",
    Attribute.BODY: b"BODY %b",
    Attribute.BODYSTRUCTURE: b"BODYSTRUCTURE %b",
    Attribute.MODSEQ: b"MODSEQ (%d)",
    Attribute.PREVIEW: b"PREVIEW %b",
    Attribute.EMAILID: b"EMAILID (%b)",
    Attribute.THREADID: b"THREADID (%b)",
    Attribute.SAVEDATE: b'SAVEDATE "%b"',
}


@dataclass(slots=True)
class Chunk:
    """Some messages and what is known about them, column by column."""

    numbers: Sequence[int]
    uids: Sequence[int]
    email_ids: Sequence[int]
    content_ids: Sequence[int]
    thread_ids: Sequence[int]
    received: Sequence[int]
    sizes: Sequence[int]
    saved: Sequence[int] = ()
    emails: list[Email] = field(default_factory=list)
    envs: list[Env] = field(default_factory=list)
    contents: dict[bytes, bytes] = field(default_factory=dict)
    whole: list[bytes] = field(default_factory=list)  # the messages, if they are all that is asked
    texts: list[bytes] = field(default_factory=list)  # all that is stored of each, if that is all

    def parts(self, row: int) -> list[PartRow]:
        """Return the table of parts of one message."""
        env = self.envs[row] if self.envs else Env.unpack(self.emails[row].env)
        return env.parts


@dataclass(slots=True)
class Plan:
    """What one FETCH needs and how its lines are made."""

    attributes: tuple[Attribute, ...]
    sections: tuple[Section | Binary, ...]
    needs_emails: bool
    needs_headers: bool
    needs_contents: bool
    needs_saved: bool
    texts: tuple[Attribute | Section, ...] | None  # that are shown as one text a message
    gone: bool = False  # some of the messages had left the mailbox

    @classmethod
    def of(cls, items: Iterable[Item]) -> "Plan":
        """Sort the items by what they need."""
        attributes = tuple(item for item in items if isinstance(item, Attribute))
        sections = tuple(item for item in items if not isinstance(item, Attribute))
        return cls(
            attributes,
            sections,
            needs_emails=bool(sections) or not STORED.keys().isdisjoint(attributes),
            needs_headers=any(isinstance(item, Section) and item.in_header for item in sections),
            needs_contents=any(item.needs_octets for item in sections),
            needs_saved=Attribute.SAVEDATE in attributes,
            texts=fetch_texts.of((*attributes, *sections)),
        )

    @property
    def needs_rows(self) -> bool:
        """Whether the arrays of the listing are not enough."""
        return self.needs_emails or self.needs_saved

    @property
    def has_binary(self) -> bool:
        """Whether a transfer encoding has to be removed."""
        return any(isinstance(item, Binary) for item in self.sections)

    @property
    def only_whole(self) -> bool:
        """Whether nothing is shown of what is stored but the messages as they are."""
        return (
            bool(self.sections)
            and STORED.keys().isdisjoint(self.attributes)
            and all(isinstance(item, Section) and not item.specifier for item in self.sections)
        )

    @property
    def only_text(self) -> bytes | None:
        """How whole messages are told, if each is asked for once: what stands before the octets."""
        section = self.sections[0]
        if len(self.sections) > 1 or not isinstance(section, Section) or section.offset is not None:
            return None
        return section.label.replace(b"%", b"%%") + b" {%d}\r\n"

    @property
    def listed(self) -> tuple[Attribute, ...]:
        """The attributes that come from the listing."""
        return tuple(attribute for attribute in self.attributes if attribute not in STORED)

    def template(self, word: bytes) -> bytes:
        """Return how a line begins that has sections: number, FETCH or UIDFETCH, columns."""
        columns = b" ".join(TEMPLATES[attribute] for attribute in self.attributes)
        return b"* %d " + word + b" (" + columns + (b" " if columns else b"")
