"""What was just stored is read from memory as it would be from the store, within bounds."""

from datetime import UTC, datetime

from mailserver.mail.fresh import LARGE, ROW_SIZE, Fresh
from mailserver.model import AccountId, BlobId, Descriptions, EmailId, MailboxId, Modseq, ThreadId
from mailserver.storage.compression import compress, compress_header
from mailserver.storage.delivery import NewCopy

NOW = datetime(2026, 11, 24, 10, 30, tzinfo=UTC)
ALICE, BOB = AccountId(1), AccountId(2)
HEADER = b"Subject: x\r\n\r\n"


def copy(email: int, account: AccountId = ALICE, env: bytes = b"12345678") -> NewCopy:
    return NewCopy(
        account, EmailId(email), ThreadId(email), BlobId(b"%032d" % email), 14, NOW, None, env,
        compress_header(HEADER), MailboxId(1), email, Modseq(1), 0, "",
    )  # fmt: skip


def test_a_message_is_shown_to_whose_it_is_as_it_was_stored() -> None:
    fresh = Fresh(1 << 20)
    fresh.keep(copy(1), compress(HEADER + b"one"))
    fresh.keep(copy(2), compress(HEADER + b"two"))
    assert fresh.message(ALICE, 1) == HEADER + b"one"
    assert (fresh.message(ALICE, 3), fresh.message(BOB, 1)) == (None, None)
    assert fresh.descriptions(ALICE, [2, 1], env=3, header=True) == Descriptions(
        [2, 1], [b"123", b"123"], [HEADER, HEADER]
    )
    assert fresh.descriptions(ALICE, [1], env=0, header=False) == Descriptions([1], [], [])
    assert fresh.descriptions(ALICE, [1, 3], env=3, header=False) is None


def test_what_was_used_longest_ago_makes_room() -> None:
    body = compress(HEADER)
    each = len(copy(1).env) + len(copy(1).header) + len(body) + ROW_SIZE
    fresh = Fresh(2 * each)
    fresh.keep(copy(1), body)
    fresh.keep(copy(2), body)
    assert fresh.message(ALICE, 1) is not None
    fresh.keep(copy(3), body)
    kept = [number for number in (1, 2, 3) if fresh.message(ALICE, number) is not None]
    assert kept == [1, 3]


def test_a_large_message_does_not_drive_out_the_others() -> None:
    fresh = Fresh(1 << 20)
    fresh.keep(copy(1, env=bytes(LARGE)), b"x")
    assert fresh.message(ALICE, 1) is None
