"""What is known to be the same although the account has changed."""

from mailserver.mail.looks import RUN_LENGTH, RUNS, Looks
from mailserver.model import AccountId, MailboxId, Modseq
from mailserver.storage.database import Database

ACCOUNT = AccountId(7)
INBOX, SENT = MailboxId(1), MailboxId(2)


def looks_after(*changes: tuple[int, MailboxId]) -> Looks:
    looks = Looks(Database(str, size=1))
    for modseq, mailbox in changes:
        looks.made(ACCOUNT, Modseq(modseq), mailbox)
    return looks


def same(looks: Looks, mailbox: MailboxId | None, then: int, now: int) -> bool:
    return looks.is_same(ACCOUNT, mailbox, Modseq(then), Modseq(now))


def test_nothing_is_known_of_what_others_may_have_done() -> None:
    looks = looks_after()
    assert same(looks, INBOX, 5, 5)
    assert not same(looks, INBOX, 5, 6)
    assert not same(looks, None, 6, 5)


def test_what_did_not_change_is_the_same() -> None:
    looks = looks_after((6, INBOX), (7, INBOX))
    assert same(looks, SENT, 5, 7)
    assert same(looks, None, 5, 7)
    assert not same(looks, INBOX, 5, 7)
    assert not same(looks, INBOX, 6, 7)
    assert same(looks, INBOX, 7, 7)
    assert not same(looks, SENT, 4, 7)  # 5 was made elsewhere
    assert not same(looks, SENT, 5, 8)  # and so was 8
    assert not same(looks, SENT, 7, 6)  # asked before it was remembered


def test_a_change_between_ends_what_is_known() -> None:
    looks = looks_after((6, INBOX), (8, INBOX))
    assert not same(looks, SENT, 5, 8)
    assert not same(looks, SENT, 6, 8)
    assert same(looks, SENT, 7, 8)


def test_one_change_of_several_mailboxes() -> None:
    looks = looks_after((6, INBOX), (6, SENT))
    assert not same(looks, SENT, 5, 6)
    assert not same(looks, INBOX, 5, 6)
    assert same(looks, None, 5, 6)


def test_changes_noted_late_are_not_believed() -> None:
    looks = looks_after((7, INBOX), (6, SENT))
    assert not same(looks, SENT, 6, 7)
    assert not same(looks, SENT, 5, 7)


def test_many_mailboxes_are_forgotten_not_mistaken() -> None:
    boxes = [MailboxId(number) for number in range(1, RUN_LENGTH * 2)]
    looks = looks_after(*((6, box) for box in boxes))
    assert not any(same(looks, box, 5, 6) for box in boxes)
    looks.made(ACCOUNT, Modseq(7), INBOX)
    assert same(looks, SENT, 6, 7)
    assert not same(looks, INBOX, 6, 7)


def test_who_changed_last_is_remembered() -> None:
    looks = looks_after((6, INBOX))
    for number in range(RUNS - 1):
        looks.made(AccountId(1000 + number), Modseq(1), INBOX)
    looks.made(ACCOUNT, Modseq(7), INBOX)
    looks.made(AccountId(10), Modseq(1), INBOX)
    assert same(looks, SENT, 5, 7)
    assert not looks.is_same(AccountId(1000), SENT, Modseq(0), Modseq(1))


def test_what_this_process_changed_need_not_be_asked_for() -> None:
    looks = looks_after((6, INBOX))
    assert looks.has_changed(ACCOUNT, INBOX, Modseq(5))
    assert not looks.has_changed(ACCOUNT, INBOX, Modseq(6))
    assert not looks.has_changed(ACCOUNT, SENT, Modseq(5))
