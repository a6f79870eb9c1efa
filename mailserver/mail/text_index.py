"""Which emails of an account have a text somewhere: what JMAP's text filters ask (RFC 8621 §4.4.1).

A text is found where a word begins with it, as `mail.tokens` says. Up to 256 Ki characters of the
body of a message are searched.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mailserver.errors import Unavailable
from mailserver.mail import tokens
from mailserver.mail.criteria import Contains, HeaderField, Place
from mailserver.model import AccountId
from mailserver.storage import search_text as stored

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

AWAITED = 200  # new messages that a query waits for; of more it looks at the texts

_MARKS = {
    Place.FROM: ("F",),
    Place.TO: ("T",),
    Place.CC: ("C",),
    Place.BCC: ("B",),
    Place.SUBJECT: ("S",),
    Place.BODY: ("",),
    Place.TEXT: ("", "S", "F", "T", "C", "B"),
}
_OF_ADDRESSES = (Place.FROM, Place.TO, Place.CC, Place.BCC)


class Hits(NamedTuple):
    """The emails that an index scan finds for one criterion."""

    ids: frozenset[int]
    exact: bool  # False: a text must be looked at in each of them, `tokens.Term.phrase` in sequence
    unread: frozenset[int]  # emails that are not in the index yet, and have to be looked at
    query: str = ""  # what the words of an email match


async def find(
    mail: "Mail", account: AccountId, criteria: Sequence[Contains | HeaderField]
) -> list[Hits]:
    """Return what the index says of each criterion that asks for any word, newest mail included.

    Of a header field it knows only whether a message has it.
    """
    unread = await _unread(mail, account)
    return [await _hits(mail, account, each, unread) for each in criteria]


async def _unread(mail: "Mail", account: AccountId) -> frozenset[int]:
    """Wait for what was delivered just now; return what would take too long."""
    try:
        if await mail.indexer.catch_up_at_once(account, AWAITED):
            return frozenset()
    except Unavailable:
        pass  # S3 is away and something is only there; without PostgreSQL the next line fails
    return frozenset(await stored.not_indexed(mail.database, account))


async def _hits(
    mail: "Mail", account: AccountId, criterion: Contains | HeaderField, unread: frozenset[int]
) -> Hits:
    if isinstance(criterion, HeaderField):
        lexemes = [tokens.Lexeme(criterion.name)]
        marks: Sequence[str] = ("H",)
        exact = criterion.text is None
    else:
        # what has neither letter nor digit is nowhere, and does not count beside words
        terms = [found for word in criterion.words if (found := tokens.term(word)).phrase]
        marks = _MARKS[criterion.place]
        by_address = criterion.place in _OF_ADDRESSES
        lexemes, exact = [], True
        for term in terms:
            if by_address and term.address is not None:
                lexemes.append(term.address)
            else:
                lexemes += term.lexemes
                exact = exact and term.exact
    if not lexemes:
        return Hits(frozenset(), True, frozenset())
    query = tokens.tsquery(dict.fromkeys(lexemes), marks)
    ids = await stored.matching(mail.database, account, query)
    return Hits(frozenset(ids), exact, unread, query)
