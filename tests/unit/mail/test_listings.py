"""A mailbox in memory, without the store behind it."""

from array import array

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
