"""A mailbox in memory, without the store behind it."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail.listings import Listing
from mailserver.model import SEEN, AccountId, MailboxId
from mailserver.storage.messages import Packed

WORDS = {2: ("one",), 3: ("one", "Two")}


def packed(flags: list[int], keywords: dict[int, tuple[str, ...]]) -> Packed:
    uids = array("q", range(1, len(flags) + 1))
    return Packed(uids, uids, uids, uids, uids, uids, array("q", flags), keywords, {})


def test_the_first_unseen_message_and_all_keywords() -> None:
    listing = Listing(AccountId(1), MailboxId(2))
    assert listing.overview() == (None, frozenset())
    listing.load(packed([SEEN, SEEN | 2, 2], WORDS), 7)
    assert listing.overview() == (3, frozenset({"one", "Two"}))
    listing.load(packed([SEEN], {}), 8)
    assert listing.overview() == (None, frozenset())
    listing.merge(packed([0], {1: ("x",)}), [], 9)
    assert listing.overview() == (1, frozenset({"x"}))


@given(st.sets(st.integers(1, 60)), st.lists(st.integers(1, 64)))
def test_messages_that_leave(there: set[int], leaving: list[int]) -> None:
    uids = sorted(there)
    words: dict[int, tuple[str, ...]] = {uid: (f"word{uid}",) for uid in uids if uid % 3 == 0}
    originals = {uid: 1000 + uid for uid in uids if uid % 5 == 0}
    listing = Listing(AccountId(1), MailboxId(2))
    first, second, third, fourth, fifth, sixth, seventh = (
        array("q", [uid + 100 * number for uid in uids]) for number in range(7)
    )
    listing.load(Packed(first, second, third, fourth, fifth, sixth, seventh, words, originals), 7)
    known, generation = listing.uids, listing.generation
    listing.merge(Packed.empty(), [(8, uid) for uid in leaving], 8)
    gone = there & set(leaving)
    left = [uid for uid in uids if uid not in gone]
    assert [
        list(column)
        for column in (
            listing.uids, listing.email_ids, listing.thread_ids, listing.received, listing.sizes,
            listing.modseqs, listing.flags,
        )
    ] == [[uid + 100 * number for uid in left] for number in range(7)]  # fmt: skip
    assert listing.keywords == {uid: words[uid] for uid in words if uid not in gone}
    assert listing.originals == {uid: originals[uid] for uid in originals if uid not in gone}
    assert listing.removed_since(7) == sorted(gone)
    assert (listing.uids is known, listing.generation > generation) == (not gone, bool(gone))
    assert list(known) == uids  # who holds the old ones still has them
