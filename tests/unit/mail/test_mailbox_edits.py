"""Changes of mailboxes that are checked one by one."""

import itertools
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mailserver.mail.mailbox_edits import Edits, WrongProperty
from mailserver.mail.mailboxes import MAX_DEPTH
from mailserver.model import Mailbox, MailboxId


def box(number: int, parent: int | None) -> Mailbox:
    return Mailbox(
        id=MailboxId(number), parent_id=None if parent is None else MailboxId(parent),
        name=f"n{number}", path="", role=None, subscribed=True, sort_order=0, uidvalidity=1,
        uidnext=1, recent_uid=1, modseq=cast("Any", 1), total=0, unseen=0, deleted=0, size=0,
    )  # fmt: skip


def strict(found: list[Mailbox]) -> Edits:
    numbers = itertools.count(100_000)
    mail = SimpleNamespace(ids=SimpleNamespace(next=lambda: next(numbers)))
    change = SimpleNamespace(modseq=1)
    edits = Edits(
        cast("Any", mail), cast("Any", change), found, lambda each: each.owner_rights,
        top_level=True,
    )  # fmt: skip
    edits.restart(strict=True)
    return edits


def chain(first: int, length: int) -> list[Mailbox]:
    return [box(first + each, first + each - 1 if each else None) for each in range(length)]


@pytest.mark.parametrize("above", [1, 5, MAX_DEPTH - 1])
def test_what_is_below_moves_along_and_counts(above: int) -> None:
    below = MAX_DEPTH - above
    moved, target = (MailboxId(1000),), MailboxId(above)
    edits = strict([*chain(1, above), *chain(1000, below)])
    edits.alter(moved[0], parent=(target,))
    assert edits.is_valid()
    edits = strict([*chain(1, above), *chain(1000, below), box(2000, 1000 + below - 1)])
    with pytest.raises(WrongProperty, match="too deep"):
        edits.alter(moved[0], parent=(target,))
    with pytest.raises(WrongProperty, match="below this one"):
        edits.alter(MailboxId(1000), parent=(MailboxId(2000),))


def test_many_mailboxes_are_changed_soon() -> None:
    deep = chain(1, MAX_DEPTH - 1)
    edits = strict([*deep, *(box(each, MAX_DEPTH - 1) for each in range(1000, 9000))])
    start = time.process_time()
    for each in range(200):
        edits.create(f"new {each}", None, None, 0, subscribed=True)
        edits.alter(MailboxId(1000 + each), name=f"other {each}")
        edits.alter(MailboxId(1000 + each), sort_order=each)
    assert time.process_time() - start < 2
