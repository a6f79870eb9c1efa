"""The nouns of the server: ids, flags, mailboxes, messages."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, Flag, IntEnum, StrEnum, auto
from typing import NamedTuple, NewType

AccountId = NewType("AccountId", int)
NOBODY = AccountId(0)  # whose mail it is that only passes through: no account has this id
MailboxId = NewType("MailboxId", int)
EmailId = NewType("EmailId", int)
ThreadId = NewType("ThreadId", int)
QueueId = NewType("QueueId", int)
IdentityId = NewType("IdentityId", int)
SubmissionId = NewType("SubmissionId", int)
BlobId = NewType("BlobId", bytes)  # SHA-256 of the message as stored, 32 octets
Modseq = NewType("Modseq", int)  # one counter per account, RFC 7162 §3.1
Uid = NewType("Uid", int)  # 1 to 2**32-1, ascending in a mailbox, never reused

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(first + second for first in _DIGITS for second in _DIGITS)
_IS_DIGITS = re.compile(f"[{_DIGITS}]+\\Z").match
_PYTHON_DIGITS = str.maketrans(_DIGITS, "0123456789abcdefghijklmnopqrstuv")  # those int() reads
ID_LENGTH = 14  # a letter, and 63 bits in base 32


class IdKind(StrEnum):
    """The letter an id shows first, so that an id of one kind never passes for another."""

    ACCOUNT = "a"
    MAILBOX = "m"
    EMAIL = "e"
    THREAD = "t"
    BLOB = "b"
    QUEUE = "q"
    IDENTITY = "i"
    SUBMISSION = "s"
    PUSH = "p"
    FEEDBACK = "f"


def id_text(kind: IdKind, value: int) -> str:
    """Show an id as JMAP and OBJECTID do: a letter and 13 base-32 digits (RFC 8620 §1.2)."""
    return (
        kind
        + _DIGITS[value >> 60]
        + _PAIRS[value >> 50 & 1023]
        + _PAIRS[value >> 40 & 1023]
        + _PAIRS[value >> 30 & 1023]
        + _PAIRS[value >> 20 & 1023]
        + _PAIRS[value >> 10 & 1023]
        + _PAIRS[value & 1023]
    )


def id_value(kind: IdKind, text: str) -> int | None:
    """Read an id back; None when the text is not an id of that kind."""
    if len(text) != ID_LENGTH or text[0] != kind.value:
        return None
    if not _IS_DIGITS(text, 1):
        return None
    value = int(text[1:].translate(_PYTHON_DIGITS), 32)
    return value if value < 1 << 63 else None


# Flags -------------------------------------------------------------------------------------------

SEEN = 1 << 0
ANSWERED = 1 << 1
FLAGGED = 1 << 2
DRAFT = 1 << 3
DELETED = 1 << 4  # belongs to the membership; every other flag belongs to the email

JUNK = 1 << 7

FLAG_NAMES: tuple[tuple[int, str, str | None], ...] = (
    # bit, IMAP name (RFC 9051 §2.3.2), JMAP keyword (RFC 8621 §4.1.1)
    (SEEN, "\\Seen", "$seen"),
    (ANSWERED, "\\Answered", "$answered"),
    (FLAGGED, "\\Flagged", "$flagged"),
    (DRAFT, "\\Draft", "$draft"),
    (DELETED, "\\Deleted", None),
    (1 << 5, "$Forwarded", "$forwarded"),
    (1 << 6, "$MDNSent", "$mdnsent"),
    (JUNK, "$Junk", "$junk"),
    (1 << 8, "$NotJunk", "$notjunk"),
    (1 << 9, "$Phishing", "$phishing"),
    (1 << 10, "$Important", "$important"),
    (1 << 11, "$SubmitPending", "$submitpending"),
    (1 << 12, "$Submitted", "$submitted"),
    (1 << 13, "$label1", "$label1"),
    (1 << 14, "$label2", "$label2"),
    (1 << 15, "$label3", "$label3"),
    (1 << 16, "$label4", "$label4"),
    (1 << 17, "$label5", "$label5"),
)
_BIT_BY_NAME = {name.lower(): bit for bit, name, _ in FLAG_NAMES}
_BIT_BY_KEYWORD = {keyword: bit for bit, _, keyword in FLAG_NAMES if keyword is not None}


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of one message: a bit mask of the common ones and the names of the others."""

    bits: int = 0
    keywords: tuple[str, ...] = ()  # sorted, in the case in which they were first set

    @classmethod
    def of(cls, names: Iterable[str]) -> "Flags":
        """Read IMAP flag names, in any case; an unknown name is a keyword."""
        bits = 0
        keywords: dict[str, str] = {}
        for name in names:
            bit = _BIT_BY_NAME.get(name.lower())
            if bit is None:
                keywords.setdefault(name.lower(), name)
            else:
                bits |= bit
        return cls(bits, tuple(sorted(keywords.values(), key=str.lower)))

    @classmethod
    def of_keywords(cls, names: Iterable[str]) -> "Flags":
        """Read JMAP keywords."""
        bits = 0
        keywords = set()
        for name in names:
            lower = name.lower()
            bit = _BIT_BY_KEYWORD.get(lower)
            if bit is None:
                keywords.add(lower)
            else:
                bits |= bit
        return cls(bits, tuple(sorted(keywords)))

    def names(self) -> tuple[str, ...]:
        """Return the IMAP names, the common flags first."""
        return flag_names(self.bits) + self.keywords

    def jmap(self) -> dict[str, bool]:
        """Return the JMAP keywords object; \\Deleted is not shown (RFC 8621 §4.1.1)."""
        shown = {
            keyword: True
            for bit, _, keyword in FLAG_NAMES
            if keyword is not None and self.bits & bit
        }
        shown.update((keyword.lower(), True) for keyword in self.keywords)
        return shown


def flag_names(bits: int) -> tuple[str, ...]:
    """Return the IMAP names of the flags in a bit mask."""
    return tuple(name for bit, name, _ in FLAG_NAMES if bits & bit)


def flag_bit(name: str) -> int | None:
    """Return the bit of an IMAP flag name in any case, or None for a keyword without a bit."""
    return _BIT_BY_NAME.get(name.lower())


class FlagChange(IntEnum):
    """How STORE and Email/set combine given flags with those a message has."""

    REPLACE = 0
    ADD = 1
    REMOVE = 2


# Accounts and mailboxes --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Account:
    """One person or shared mailbox with its own store of mail."""

    id: AccountId
    login: str  # a full address in normal form
    name: str
    enabled: bool
    quota_limit: int | None  # bytes; None is no limit
    quota_used: int  # bytes
    modseq: Modseq
    refuses: bool = False  # mail, while it is disabled
    remove_at: datetime | None = None  # deleted: all of it is removed then

    @property
    def state(self) -> str:
        """Return what it can do, in a word for people."""
        if self.remove_at is not None:
            return "deleted"
        return "enabled" if self.enabled else "disabled"

    @property
    def takes_mail(self) -> bool:
        """Whether mail for it is kept; also of a disabled account, unless that refuses."""
        return self.remove_at is None and (self.enabled or not self.refuses)


class Role(StrEnum):
    """What a mailbox is for: JMAP roles (RFC 8621 §2) and IMAP special uses (RFC 6154 §2)."""

    INBOX = "inbox"
    ARCHIVE = "archive"
    DRAFTS = "drafts"
    FLAGGED = "flagged"
    IMPORTANT = "important"
    JUNK = "junk"
    SENT = "sent"
    TRASH = "trash"


SPECIAL_USES: dict[Role, str] = {
    Role.ARCHIVE: "\\Archive",
    Role.DRAFTS: "\\Drafts",
    Role.FLAGGED: "\\Flagged",
    Role.IMPORTANT: "\\Important",
    Role.JUNK: "\\Junk",
    Role.SENT: "\\Sent",
    Role.TRASH: "\\Trash",
}


class Right(Flag):
    """What somebody may do with a mailbox (RFC 4314 §2.1)."""

    LOOKUP = auto()  # l: see that it is there
    READ = auto()  # r: open it
    SEEN = auto()  # s: change \\Seen
    WRITE = auto()  # w: change every flag but \\Seen and \\Deleted
    INSERT = auto()  # i: add messages
    POST = auto()  # p: send mail to its address
    CREATE = auto()  # k: make mailboxes below it
    DELETE_MAILBOX = auto()  # x: delete or rename it
    DELETE = auto()  # t: change \\Deleted
    EXPUNGE = auto()  # e: remove messages
    ADMINISTER = auto()  # a: say who may do what


NO_RIGHTS = Right(0)
ALL_RIGHTS = ~NO_RIGHTS
RIGHT_LETTERS: dict[str, Right] = dict(zip("lrswipkxtea", Right, strict=True))


def rights_text(rights: Right) -> str:
    """Return rights as their letters, the form that is stored."""
    return "".join(letter for letter, right in RIGHT_LETTERS.items() if right in rights)


def rights_of(letters: str) -> Right:
    """Read the letters of rights."""
    rights = NO_RIGHTS
    for letter in letters:
        rights |= RIGHT_LETTERS[letter]
    return rights


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One mailbox of one account, as of `modseq`."""

    id: MailboxId
    parent_id: MailboxId | None
    name: str  # the last part of the path, as JMAP shows it
    path: str  # all parts joined by "/", as IMAP shows it; "INBOX" for the inbox
    role: Role | None
    subscribed: bool
    sort_order: int
    uidvalidity: int  # never reused for a name, RFC 9051 §2.3.1.1
    uidnext: int
    recent_uid: int  # the first one that no session has seen as \\Recent
    modseq: Modseq  # of the latest change to any of its messages or its counters
    total: int
    unseen: int
    deleted: int
    size: int  # bytes of all its messages
    owner_rights: Right = ALL_RIGHTS  # what the account it belongs to may do with it


def flag_mask(rights: Right) -> int:
    """Return the bits of the flags that may be changed; keywords go with WRITE (RFC 4314 §4)."""
    mask = SEEN if Right.SEEN in rights else 0
    mask |= DELETED if Right.DELETE in rights else 0
    return mask | (~(SEEN | DELETED) if Right.WRITE in rights else 0)


class RightsChange(Enum):
    """How SETACL combines given rights with those an entry has (RFC 4314 §3.1)."""

    REPLACE = auto()
    ADD = auto()
    REMOVE = auto()


@dataclass(frozen=True, slots=True)
class Grant:
    """One entry of an access control list (RFC 4314 §2)."""

    grantee: AccountId | None  # None: anyone
    negative: bool  # its rights are taken away from what other entries give
    rights: Right
    login: str | None = None  # of the grantee


class Tree(NamedTuple):
    """Which mailboxes an account has, without numbers."""

    modseq: Modseq  # of the account
    digest: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """A mailbox as one principal sees it."""

    account_id: AccountId  # whose it is
    mailbox: Mailbox
    path: str  # as the principal names it; the same as that of `mailbox` when it is their own
    rights: Right
    subscribed: bool  # by the principal
    role: Role | None  # to the principal; what belongs to others has none


# Messages ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Email:
    """One message of an account: what never changes."""

    id: EmailId
    thread_id: ThreadId
    blob_id: BlobId
    size: int  # octets, RFC822.SIZE
    received_at: datetime  # INTERNALDATE, receivedAt
    sent_at: datetime | None
    env: bytes  # mime.Env, packed
    header: bytes  # the header block with its blank line


class Descriptions(NamedTuple):
    """What lists need of emails, column by column; what was not asked for is empty."""

    ids: list[int]
    envs: list[bytes]
    headers: list[bytes]


@dataclass(frozen=True, slots=True)
class Membership:
    """One message in one mailbox, and what can change about it."""

    mailbox_id: MailboxId
    uid: Uid
    email_id: EmailId
    thread_id: ThreadId
    received_at: datetime
    size: int
    modseq: Modseq
    flags: Flags
    original_id: EmailId | None = None  # of which email this one is a copy

    @property
    def content_id(self) -> EmailId:
        """The id that the email shares with all its copies (EMAILID, RFC 8474 §5.1)."""
        return self.original_id or self.email_id


class ChangeKind(IntEnum):
    """What one row of the change log reports; the numbers are stored."""

    EMAIL_CREATED = 1  # a new email, in this mailbox
    EMAIL_ADDED = 2  # an email that existed is now also in this mailbox
    EMAIL_UPDATED = 3  # its flags changed
    EMAIL_REMOVED = 4  # no longer in this mailbox, but in another
    EMAIL_DESTROYED = 5  # gone from this mailbox and from the account
    MAILBOX_CREATED = 11
    MAILBOX_UPDATED = 12
    MAILBOX_DESTROYED = 13
    METADATA_UPDATED = 21  # annotations were set or removed
    SHARING_UPDATED = 22  # another account's mailbox is shared with this one otherwise than before
    IDENTITY_CREATED = 31
    IDENTITY_UPDATED = 32
    IDENTITY_DESTROYED = 33
    SUBMISSION_CREATED = 41
    SUBMISSION_UPDATED = 42
    SUBMISSION_DESTROYED = 43
    VACATION_UPDATED = 51


# JMAP does not show emails that have \Deleted (RFC 8621 §4.1.1). An EMAIL_UPDATED entry has one of
# these names if it did that; one by which emails left a mailbox is named HIDDEN if they were.
HIDDEN = "hidden"
SHOWN = "shown"

EMAIL_KINDS = frozenset(kind for kind in ChangeKind if kind < ChangeKind.MAILBOX_CREATED)
MAILBOX_KINDS = frozenset(
    {ChangeKind.MAILBOX_CREATED, ChangeKind.MAILBOX_UPDATED, ChangeKind.MAILBOX_DESTROYED}
)
IDENTITY_KINDS = frozenset(kind for kind in ChangeKind if kind // 10 == 3)
SUBMISSION_KINDS = frozenset(kind for kind in ChangeKind if kind // 10 == 4)
GONE_KINDS = frozenset({ChangeKind.EMAIL_REMOVED, ChangeKind.EMAIL_DESTROYED})


@dataclass(frozen=True, slots=True)
class ChangeEntry:
    """One row of the change log: the same thing done to messages of one mailbox at one modseq."""

    modseq: Modseq
    kind: ChangeKind
    mailbox_id: MailboxId
    uids: tuple[int, ...] = ()
    email_ids: tuple[int, ...] = ()  # or of the identities or submissions that it is about
    thread_ids: tuple[int, ...] = ()
    names: tuple[str, ...] = ()  # of annotations; or HIDDEN, SHOWN


class QueueState(IntEnum):
    """Where the delivery to one recipient stands; the numbers are stored."""

    WAITING = 0
    DELIVERED = 1
    FAILED = 2
    HELD = 3
    CAUGHT = 4  # kept and shown, never sent: `mailserver dev`
    SENDING = 5  # a worker has it


class ReportKind(IntEnum):
    """What a delivery status notification tells (RFC 3464 §2.3.3); the numbers are stored."""

    FAILED = 1
    DELAYED = 2
    DELIVERED = 3  # into a mailbox here
    RELAYED = 4  # to a server that tells nobody when it delivers


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a session acts for after authentication."""

    account_id: AccountId
    login: str


# Submissions -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """A name and an address, as a header field has them (RFC 8621 §4.1.2.3)."""

    name: str | None
    email: str


@dataclass(frozen=True, slots=True)
class Identity:
    """An address that the account may send from, and what clients put into mail from it."""

    id: IdentityId
    email: str  # "*@domain" is any address there
    name: str
    reply_to: tuple[EmailAddress, ...] | None
    bcc: tuple[EmailAddress, ...] | None
    text_signature: str
    html_signature: str
    standard: bool  # came with an address of the account, and goes with it only


class UndoStatus(IntEnum):
    """Whether a submission may still be canceled (RFC 8621 §7); the numbers are stored."""

    PENDING = 0
    FINAL = 1
    CANCELED = 2


class Delivery(IntEnum):
    """What is known of the delivery to one recipient (RFC 8621 §7); the numbers are stored."""

    QUEUED = 0
    YES = 1
    NO = 2
    UNKNOWN = 3  # another server took it


@dataclass(frozen=True, slots=True)
class RecipientStatus:
    """How far a submission came with one recipient."""

    recipient: str
    delivered: Delivery
    reply: str  # of SMTP, on one line
    displayed: bool = False


class NotificationKind(IntEnum):
    """What a recipient's system says about a message; the numbers are stored."""

    DSN = 1  # RFC 3464
    MDN = 2  # RFC 8098


@dataclass(frozen=True, slots=True)
class Submission:
    """One email on its way to the recipients of its envelope."""

    id: SubmissionId
    identity_id: IdentityId
    email_id: EmailId
    thread_id: ThreadId
    envelope: str  # JSON of an Envelope (RFC 8621 §7)
    send_at: datetime
    undo_status: UndoStatus
    recipients: tuple[RecipientStatus, ...] = ()
    reports: tuple[tuple[NotificationKind, BlobId], ...] = ()  # oldest first


@dataclass(frozen=True, slots=True)
class Vacation:
    """What is answered while somebody is away (RFC 8621 §8)."""

    enabled: bool = False
    from_date: datetime | None = None
    to_date: datetime | None = None
    subject: str | None = None
    text_body: str | None = None
    html_body: str | None = None
