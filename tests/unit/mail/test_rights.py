"""What the entries of an access control list come to."""

from hypothesis import given
from hypothesis import strategies as st

from mailserver.mail.rights import OWNER_KEEPS, effective, limited
from mailserver.model import (
    ALL_RIGHTS,
    DELETED,
    NO_RIGHTS,
    SEEN,
    AccountId,
    Flags,
    Grant,
    Right,
    rights_of,
)

OWNER, BOB, CAROL = AccountId(1), AccountId(2), AccountId(3)
PEOPLE = st.sampled_from([OWNER, BOB, CAROL])
RIGHTS = st.text("lrswipkxtea", max_size=11).map(rights_of)
FLAGS = st.builds(
    Flags,
    st.integers(0, 2**18 - 1),
    st.sets(st.sampled_from("abc")).map(lambda words: tuple(sorted(words))),
)


@st.composite
def lists(draw: st.DrawFn) -> list[Grant]:
    keys = draw(st.sets(st.tuples(st.one_of(st.none(), PEOPLE), st.booleans())))
    return [Grant(who, negative, draw(RIGHTS)) for who, negative in keys]


@given(lists(), PEOPLE)
def test_each_right_is_what_the_entries_say_of_it(grants: list[Grant], who: AccountId) -> None:
    mine = [grant for grant in grants if grant.grantee in (None, who)]
    named = any(grant.grantee == who and not grant.negative for grant in mine)
    found = effective(grants, who, OWNER)
    for right in Right:
        given_ = any(right in grant.rights for grant in mine if not grant.negative)
        taken = any(right in grant.rights for grant in mine if grant.negative)
        if who == OWNER:
            given_ = given_ or not named
        kept = who == OWNER and right in OWNER_KEEPS
        assert (right in found) == (kept or (given_ and not taken))


def test_nobody_has_rights_on_what_was_not_shared() -> None:
    assert effective([], BOB, OWNER) == NO_RIGHTS
    assert effective([], OWNER, OWNER) == ALL_RIGHTS


@given(FLAGS, FLAGS, RIGHTS)
def test_only_allowed_flags_change(old: Flags, new: Flags, rights: Right) -> None:
    kept = limited(old, new, rights)
    for mask, right in ((SEEN, Right.SEEN), (DELETED, Right.DELETE)):
        source = new if right in rights else old
        assert kept.bits & mask == source.bits & mask
    source = new if Right.WRITE in rights else old
    others = ~(SEEN | DELETED)
    assert kept.bits & others == source.bits & others
    assert kept.keywords == source.keywords
