"""ESEARCH: a search of several mailboxes (RFC 7377)."""

from dataclasses import dataclass

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.filters import Filter, Scope, filter_mailboxes
from mailserver.imap.protocol.search import Search, Wanted, parse_uid_search

SELECTED_ONLY: tuple[Filter, ...] = (Filter(Scope.SELECTED),)
_SCOPES = frozenset(Scope) - {Scope.SELECTED_DELAYED}


@dataclass(frozen=True, slots=True)
class MultiSearch:
    """ESEARCH: where to search, and what; results are always UIDs."""

    places: tuple[Filter, ...]
    search: Search

    @property
    def needs_selected(self) -> bool:
        """Whether a mailbox has to be selected."""
        return any(place.scope is Scope.SELECTED for place in self.places)


def parse_esearch(args: Cursor) -> MultiSearch:
    """Read esearch = "ESEARCH" [SP esearch-source-opts] [SP search-return-opts] SP search-program.

    esearch-source-opts = "IN" SP "(" source-mbox [SP "(" scope-options ")"] ")"; no scope option
    is defined.
    """
    places = SELECTED_ONLY
    if args.take(b" IN "):
        places = tuple(
            dict.fromkeys(args.parenthesized(lambda: filter_mailboxes(args, allowed=_SCOPES)))
        )
    search = parse_uid_search(args)
    saves = search.returns is not None and Wanted.SAVE in search.returns.wanted
    if saves and places != SELECTED_ONLY:
        args.fail("Only a search of the selected mailbox can be saved")
    return MultiSearch(places, search)


def correlator(name: bytes, uidvalidity: int) -> bytes:
    """Write what tells in which mailbox something was found, after the TAG."""
    return b" MAILBOX %b UIDVALIDITY %d" % (name, uidvalidity)
