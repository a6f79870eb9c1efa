"""What a change did to messages, told to other processes with the hint that something changed.

A process that knows a mailbox as it was before takes it over without a query. Every modseq of an
account is taken by one change, so whatever is lost, late, doubled or out of order is noticed by the
modseqs, and the mailbox is then read from the store; so is what is too large to be told.
"""

import json
from array import array
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import starmap
from typing import TYPE_CHECKING, Any, NamedTuple

from mailserver.model import (
    EMAIL_KINDS,
    GONE_KINDS,
    AccountId,
    ChangeEntry,
    Flags,
    MailboxId,
    Modseq,
)
from mailserver.storage.delivery import NewCopy
from mailserver.storage.messages import Packed
from mailserver.storage.notify import Notifier

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

MOST_UIDS = 250  # of a change that is told; one that is larger is read from the store
ROOM = 6000  # octets of the text about a change


class Arrived(NamedTuple):
    """New messages of a mailbox."""

    mailbox: MailboxId
    messages: Packed


class Flagged(NamedTuple):
    """Messages of a mailbox that have other flags now."""

    mailbox: MailboxId
    stamps: Sequence[tuple[Flags, Sequence[int]]]  # with UIDs


class Left(NamedTuple):
    """Messages that left a mailbox."""

    mailbox: MailboxId
    uids: Sequence[int]


class Touched(NamedTuple):
    """A mailbox of which nothing more is told."""

    mailbox: MailboxId


Delta = Arrived | Flagged | Left | Touched  # what one change did to one mailbox


def share(mail: "Mail", notifier: Notifier) -> None:
    """Tell other processes what this one changes, and hear what they do."""
    mail.events.forward(notifier.tell)
    mail.events.forward_details(notifier.tell_details)
    notifier.learn = partial(hear, mail)


def made(mail: "Mail", account: AccountId, modseq: Modseq, deltas: Sequence[Delta]) -> None:
    """Note all that a change of this process did, to messages and to nothing else; tell others."""
    mail.listings.learn(account, modseq, deltas)
    for delta in deltas:
        mail.looks.made(account, modseq, delta.mailbox)
    if text := encode(deltas):
        mail.events.explain(account, modseq, text)


def hear(mail: "Mail", account: AccountId, modseq: Modseq, text: str) -> None:
    """Note the same of a change of another process."""
    deltas = decode(text)
    mail.listings.learn(account, modseq, deltas)
    mail.looks.told(account, modseq, [delta.mailbox for delta in deltas])


def of_copies(copies: Iterable[NewCopy]) -> dict[AccountId, list[Delta]]:
    """Return what a commit that stores these and nothing else does to each account."""
    grouped: dict[tuple[AccountId, MailboxId], list[NewCopy]] = {}
    for copy in copies:
        grouped.setdefault((copy.account_id, copy.mailbox_id), []).append(copy)
    found: dict[AccountId, list[Delta]] = {}
    for (account, mailbox), rows in grouped.items():
        found.setdefault(account, []).append(Arrived(mailbox, _packed(rows)))
    return found


def of_log(entries: Iterable[ChangeEntry]) -> list[Delta] | None:
    """Return what the log says of a change; None when it did not only concern messages."""
    grouped: dict[MailboxId, list[ChangeEntry]] = {}
    for entry in entries:
        if entry.kind not in EMAIL_KINDS:
            return None
        grouped.setdefault(entry.mailbox_id, []).append(entry)
    return list(starmap(_logged, grouped.items()))


def _logged(mailbox: MailboxId, entries: Sequence[ChangeEntry]) -> Delta:
    if any(entry.kind not in GONE_KINDS for entry in entries):
        return Touched(mailbox)
    return Left(mailbox, [uid for entry in entries for uid in entry.uids])


def _packed(copies: Iterable[NewCopy]) -> Packed:
    rows = sorted(copies, key=lambda copy: copy.uid)
    return Packed(
        array("q", [row.uid for row in rows]),
        array("q", [row.email_id for row in rows]),
        array("q", [row.thread_id for row in rows]),
        array("q", [round(row.received_at.timestamp() * 1000) for row in rows]),
        array("q", [row.size for row in rows]),
        array("q", [row.modseq for row in rows]),
        array("q", [row.flags for row in rows]),
        {row.uid: tuple(row.keywords.split(" ")) for row in rows if row.keywords},
        {},
    )


# The text ----------------------------------------------------------------------------------------

_COLUMNS = 7  # of Packed


def encode(deltas: Iterable[Delta]) -> str:
    """Write deltas as ASCII of one line; nothing when it gets too long."""
    text = json.dumps([_written(delta) for delta in deltas], separators=(",", ":"))
    return text if len(text) <= ROOM else ""


def _written(delta: Delta) -> list[Any]:
    match delta:
        case Arrived(mailbox, messages) if len(messages.uids) <= MOST_UIDS:
            return ["+", mailbox, [list(each) for each in messages[:_COLUMNS]], messages.keywords]
        case Flagged(mailbox, stamps) if sum(len(uids) for _, uids in stamps) <= MOST_UIDS:
            return ["=", mailbox, [[new.bits, new.keywords, list(uids)] for new, uids in stamps]]
        case Left(mailbox, uids) if len(uids) <= MOST_UIDS:
            return ["-", mailbox, list(uids)]
    return ["?", delta.mailbox]


def decode(text: str) -> list[Delta]:
    """Read what `encode` wrote."""
    return [_read(*item) for item in json.loads(text)]


def _read(sign: str, mailbox: MailboxId, *rest: Any) -> Delta:
    if sign == "+":
        columns, keywords = rest
        words = {int(uid): tuple(each) for uid, each in keywords.items()}
        return Arrived(mailbox, Packed._make([*(array("q", each) for each in columns), words, {}]))
    if sign == "=":
        stamps = [(Flags(bits, tuple(words)), array("q", uids)) for bits, words, uids in rest[0]]
        return Flagged(mailbox, stamps)
    if sign == "-":
        return Left(mailbox, rest[0])
    return Touched(mailbox)  # also what a later version says
