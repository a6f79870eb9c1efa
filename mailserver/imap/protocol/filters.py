"""Filters that name several mailboxes: filter-mailboxes (RFC 5465 §8, RFC 7377 §4)."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.protocol.responses import DELIMITER
from mailserver.model import AccountId, Role

MAX_NAMES = 200  # mailboxes that one filter names


class Scope(Enum):
    """Which mailboxes a filter is about (RFC 5465 §6, RFC 7377 §2.2)."""

    SELECTED = b"SELECTED"
    SELECTED_DELAYED = b"SELECTED-DELAYED"
    INBOXES = b"INBOXES"
    PERSONAL = b"PERSONAL"
    SUBSCRIBED = b"SUBSCRIBED"
    SUBTREE = b"SUBTREE"
    SUBTREE_ONE = b"SUBTREE-ONE"
    MAILBOXES = b"MAILBOXES"


OF_SELECTED = frozenset({Scope.SELECTED, Scope.SELECTED_DELAYED})
_PERSONAL = frozenset({Scope.INBOXES, Scope.PERSONAL})
_WITH_NAMES = frozenset({Scope.SUBTREE, Scope.SUBTREE_ONE, Scope.MAILBOXES})


class Named(Protocol):
    """A mailbox as far as filters look at it."""

    @property
    def account_id(self) -> AccountId:
        """Whose it is."""

    @property
    def path(self) -> str:
        """What it is called."""

    @property
    def role(self) -> Role | None:
        """What it is for."""

    @property
    def subscribed(self) -> bool:
        """Whether it is subscribed to."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter, with the names that it was given."""

    scope: Scope
    names: tuple[str, ...] = ()

    def matches(self, place: Named, own: AccountId) -> bool:
        """Whether a mailbox is meant by the owner of an account; SELECTED means none here."""
        if self.scope in _PERSONAL and place.account_id != own:
            return False
        matches = _MATCHES.get(self.scope)
        return matches is not None and matches(self, place)

    def _below(self, place: Named, levels: int | None) -> bool:
        """Whether it is one of the names, or so many levels below one; None: any number."""
        for name in self.names:
            if place.path == name:
                return True
            rest = place.path.removeprefix(name + DELIMITER)
            if rest != place.path and (levels is None or rest.count(DELIMITER) < levels):
                return True
        return False


def filter_mailboxes(args: Cursor, *, allowed: frozenset[Scope]) -> Filter:
    """filter-mailboxes = filter-mailboxes-selected / filter-mailboxes-other."""
    try:
        scope = Scope(args.word())
    except ValueError:
        args.fail("Unknown mailbox filter")
    if scope not in allowed:
        args.fail("Mailbox filter is not possible here")
    if scope not in _WITH_NAMES:
        return Filter(scope)
    args.space()
    names = args.parenthesized(args.mailbox) if args.peek(b"(") else [args.mailbox()]
    if len(names) > MAX_NAMES:
        args.fail("Too many mailboxes")
    return Filter(scope, tuple(dict.fromkeys(names)))


_MATCHES: dict[Scope, Callable[[Filter, Named], bool]] = {
    Scope.INBOXES: lambda chosen, place: place.role is Role.INBOX,  # where mail is delivered
    Scope.PERSONAL: lambda chosen, place: True,
    Scope.SUBSCRIBED: lambda chosen, place: place.subscribed,
    Scope.SUBTREE: lambda chosen, place: chosen._below(place, None),
    Scope.SUBTREE_ONE: lambda chosen, place: chosen._below(place, 1),
    Scope.MAILBOXES: lambda chosen, place: place.path in chosen.names,
}
