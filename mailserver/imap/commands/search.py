"""SEARCH, and what it shares with SORT, THREAD and ESEARCH."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from mailserver.imap.commands.condstore import make_aware
from mailserver.imap.commands.context import (
    Arrange,
    Question,
    demand_new_tag,
    keep_updated,
    refuse_updates,
)
from mailserver.imap.commands.fetch import send_unasked
from mailserver.imap.commands.limits import newest_found
from mailserver.imap.commands.seeker import Seeker
from mailserver.imap.protocol.context import frozen, names_last
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.fetch import Attribute
from mailserver.imap.protocol.search import (
    Returns,
    Search,
    Wanted,
    esearch,
    mentions,
    modseq_shown,
    names_numbers,
    to_save,
)
from mailserver.imap.protocol.search_keys import (
    Fuzzy,
    Key,
    Modified,
)
from mailserver.imap.protocol.sort import Sort
from mailserver.imap.session import Session


async def search(session: Session, command: Search) -> bytes | None:
    """Tell which messages match (RFC 3501 §6.4.4); the response comes also when none does."""
    demand_no_charset(session, command)
    if session.rev2 and command.returns is None:
        command = replace(command, returns=Returns(Wanted.ALL))  # RFC 9051 §6.4.4
    await prepare(session, command.key)
    updates = await wants_updates(session, command.returns, command.key)
    async with saving(session, command.returns):
        seeker = Seeker(session)
        found = await seeker.find(command.key)
        told = newest_found(session, command.returns, found, seeker.uids)
    tell(session, command, b"SEARCH", seeker, told)
    if updates:
        follow(session, command, seeker, told)
    return seeker.code


async def wants_updates(session: Session, returns: Returns | None, key: Key) -> bool:
    """Whether results shall be told again as they change; refuses a tag that is in use."""
    if returns is None or Wanted.UPDATE not in returns.wanted:
        return False
    if session.selected is None:
        raise ProtocolError("Updates are for the selected mailbox")
    demand_new_tag(session)
    if mentions(key, Fuzzy):  # what matches may depend on what else was found
        refuse_updates(session, session.tag, b"Fuzzy results are not updated")
        return False
    if Attribute.MODSEQ in returns.items:
        await make_aware(session)
    return True


def follow(
    session: Session,
    command: Search | Sort,
    seeker: Seeker,
    found: Sequence[int],
    arrange: Arrange | None = None,
    place: bytes = b"",
) -> None:
    """Keep the results of a search of the selected mailbox up to date (RFC 5267 §4.3)."""
    key = frozen(command.key, session.open.view)

    async def examine(candidates: list[int]) -> Sequence[int]:
        return await Seeker(session).narrow(key, candidates)

    items = command.returns.items if command.returns is not None else ()

    async def describe(uids: list[int]) -> None:
        await send_unasked(session, uids, items)

    question = Question(
        session.tag,
        command.by_uid,
        examine,
        arrange,
        describe if items else None,
        names_last(key),
        place,
    )
    last = seeker.uids[-1] if seeker.uids else 0
    keep_updated(session, question, seeker.numbers(found, by_uid=True), seeker.modseq, last)


def demand_no_charset(session: Session, command: Search) -> None:
    """Refuse a charset where all strings are UTF-8 (RFC 6855 §3)."""
    if command.names_charset and b"UTF8=ACCEPT" in session.enabled:
        raise ProtocolError("Strings are UTF-8, no charset can be named")


async def prepare(session: Session, key: Key) -> None:
    """Refuse numbers that the client does not know (RFC 9586 §3); note that it knows modseqs."""
    if session.uidonly and names_numbers(key):
        raise ProtocolError("Messages have to be named by UID", b"UIDREQUIRED")
    if mentions(key, Modified):
        await make_aware(session)


@asynccontextmanager
async def saving(session: Session, returns: Returns | None) -> AsyncIterator[None]:
    """Forget what "$" was when a search fails that was to save (RFC 5182 §2.1)."""
    try:
        yield
    except ProtocolError:
        raise  # BAD changes nothing
    except Exception:
        if returns is not None and Wanted.SAVE in returns.wanted:
            session.open.view.saved = ()
        raise


def tell(
    session: Session, command: Search | Sort, word: bytes, seeker: Seeker, found: Sequence[int]
) -> None:
    """Send the numbers of what was found, in its order, or what was asked for of it."""
    if command.returns is not None:
        tell_extended(session, command, seeker, found)
        return
    numbers = seeker.numbers(found, by_uid=command.by_uid)
    told = word + b"".join([b" %d" % number for number in numbers])
    if found and mentions(command.key, Modified):
        told += b" (MODSEQ %d)" % max(seeker.modseqs[position] for position in found)
    session.untagged(told)


def tell_extended(
    session: Session,
    command: Search | Sort,
    seeker: Seeker,
    found: Sequence[int],
    *,
    place: bytes = b"",
    silent: bool = False,
) -> None:
    """Save what was found, and send an ESEARCH response unless `silent`."""
    returns = command.returns
    assert returns is not None
    if Wanted.SAVE in returns.wanted:
        session.open.view.saved = to_save(returns, seeker.numbers(found, by_uid=True))
    numbers = seeker.numbers(found, by_uid=command.by_uid)
    scores = seeker.relevancies(found) if Wanted.RELEVANCY in returns.wanted else ()
    response = esearch(
        session.tag, returns, numbers, by_uid=command.by_uid, place=place, scores=scores
    )
    if response is None or silent:
        return
    if found and mentions(command.key, Modified):
        shown = modseq_shown(returns, [seeker.modseqs[position] for position in found])
        response += b" MODSEQ %d" % shown
    session.untagged(response)
