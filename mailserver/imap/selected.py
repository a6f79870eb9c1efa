"""The mailbox that a session has open, and what else tells its client of changes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from mailserver.events import Subscription
from mailserver.imap.protocol.view import View
from mailserver.mail.listings import Listing
from mailserver.model import AccountId, MailboxId, Right

# one of these makes a mailbox more than readable, as flags are shared (RFC 4314 §5.2)
CHANGING = Right.INSERT | Right.EXPUNGE | Right.SEEN | Right.WRITE | Right.DELETE

EXPUNGE_ISSUED = b"EXPUNGEISSUED"  # the client may want to say NOOP (RFC 5530 §3)
SOME_DELETED = "Some of the messages have been deleted"


class Refused(Exception):
    """A command that is answered with NO and a response code (RFC 5530)."""

    def __init__(self, code: bytes | None, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Follower(ABC):
    """Something that tells the client more about its mailbox when that changes."""

    __slots__ = ()

    @property
    @abstractmethod
    def by_uid(self) -> bool:
        """Whether it names messages by UID."""

    @abstractmethod
    def leaving(self, numbers: Mapping[int, int]) -> None:
        """Say what has to be said before the EXPUNGE of messages, given as UIDs and numbers."""

    @abstractmethod
    async def changed(self) -> None:
        """Say what has to be said after EXISTS and FETCH."""


@dataclass(frozen=True, slots=True)
class Hears:
    """What the client hears of the selected mailbox without a command for it (RFC 5465 §6.1)."""

    messages: bool = True  # EXISTS and EXPUNGE
    flags: bool = True
    immediate: bool = False  # EXPUNGE, whichever command is running


EVERYTHING = Hears()


class Watcher(ABC):
    """What a client wants to hear of, also when it says nothing (RFC 5465)."""

    __slots__ = ()

    @property
    @abstractmethod
    def has_news(self) -> bool:
        """Whether something happened that was not looked at yet."""

    @abstractmethod
    async def tell(self) -> None:
        """Tell what happened, but for the messages of the selected mailbox."""

    @abstractmethod
    async def arrived(self, after: int) -> None:
        """Send data of messages in the selected mailbox, announced just now, above a UID."""

    @abstractmethod
    def made(self, account: AccountId, modseq: int) -> None:
        """Note that the client itself made a change."""

    @abstractmethod
    def close(self) -> None:
        """Stop listening."""


@dataclass(slots=True)
class Selected:
    """The mailbox that a session has open."""

    account: AccountId  # whose it is
    mailbox_id: MailboxId
    path: str
    listing: Listing
    view: View
    rights: Right
    examined: bool  # opened for reading only
    subscription: Subscription
    keywords: frozenset[str] = frozenset()  # that FLAGS announced, besides the common ones
    own_changes: set[int] = field(default_factory=set)  # modseqs whose flags were told already
    complete: int = 0  # everything up to this modseq was told (RFC 7162 §4)
    heard: int = 0  # changes up to this modseq were looked at
    withheld: set[int] = field(default_factory=set)  # UIDs whose flags the client did not hear
    contexts: dict[bytes, Follower] = field(default_factory=dict)  # by tag (RFC 5267 §4.3)
    rights_at: int = 0  # the modseq of the listing at which the rights were looked up

    @property
    def read_only(self) -> bool:
        """Whether nothing may be changed here (RFC 4314 §5.2)."""
        return self.examined or not self.rights & CHANGING

    @property
    def is_current(self) -> bool:
        """Whether no change is known that the listing does not have."""
        return self.subscription.modseq <= self.listing.modseq

    @property
    def is_told(self) -> bool:
        """Whether the client was told all that is known to this process."""
        listing, view, modseq = self.listing, self.view, self.listing.modseq
        return (
            self.heard == modseq == view.modseq == self.complete
            and self.subscription.modseq <= modseq
            and view.uids is listing.uids
            and view.count == len(view.uids)
            and not (self.withheld or self.own_changes or self.contexts)
        )

    def require(self, right: Right) -> None:
        """Refuse a command for which the user has no right."""
        if right not in self.rights:
            raise Refused(b"NOPERM", "Not permitted")
