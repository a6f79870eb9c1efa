"""What FETCH reads: chunks of columns, the next one while one is written.

Flags, UIDs, sizes and dates come from the arrays of the listing and cost no query. ENVELOPE and its
like were rendered at delivery. Only sections below the header open a message.
"""

import asyncio
from array import array
from collections.abc import AsyncGenerator, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain

from mailserver.imap.commands import fetch_texts
from mailserver.imap.commands.fetch_plan import Chunk, Plan
from mailserver.imap.commands.fetch_texts import STORED
from mailserver.imap.selected import Selected
from mailserver.imap.session import Session
from mailserver.mail import content, messages
from mailserver.mime import HEADER_LIMIT, Env
from mailserver.model import EmailId

FLAG_ROWS = 4096  # messages of a chunk that needs only arrays
STORED_ROWS = 500  # messages of a chunk that needs what was stored at delivery: 1 ms of CPU
HEADER_ROWS = 200  # messages of a chunk that needs their headers, which takes longer
CONTENT_ROWS = 50  # messages of a chunk that needs their octets
STORED_OCTETS = 4096  # that a stored envelope may have, about
CHUNK_OCTETS = 8 * 1024 * 1024  # of a chunk, as far as one message alone is not larger


async def read(
    session: Session, selected: Selected, positions: Sequence[range], plan: Plan
) -> AsyncGenerator[Chunk, None]:
    """Read chunk after chunk, the next one while the caller writes this one."""
    pieces = _pieces(selected, positions, plan)
    if not plan.needs_rows:
        async for chunk in _listed(selected, pieces, plan):
            yield chunk
        return
    first = next(pieces, None)
    if first is None:
        return
    second = next(pieces, None)
    if second is None:  # as when a client reads one message: there is nothing to run ahead to
        yield await _load(session, _arrays(selected, first, plan), plan)
        return
    pending: asyncio.Task[Chunk] | None = None
    try:
        for piece in chain((first, second), pieces):
            following = asyncio.create_task(_load(session, _arrays(selected, piece, plan), plan))
            if pending is not None:
                ready, pending = pending, following
                yield await ready
            else:
                pending = following
        if pending is not None:
            ready, pending = pending, None
            yield await ready
    finally:
        if pending is not None:
            pending.cancel()
            with suppress(asyncio.CancelledError, Exception):  # its outcome interests nobody now
                await pending


def listed(
    selected: Selected, positions: Iterable[range], plan: Plan
) -> AsyncGenerator[Chunk, None]:
    """Take chunk after chunk of what needs nothing but the listing."""
    return _listed(selected, _pieces(selected, positions, plan), plan)


async def _listed(
    selected: Selected, pieces: Iterable[range], plan: Plan
) -> AsyncGenerator[Chunk, None]:
    """Take chunk after chunk from the listing; between them others are served."""
    for order, piece in enumerate(pieces):
        if order:
            await asyncio.sleep(0)
        yield _arrays(selected, piece, plan)


def _limits(plan: Plan) -> tuple[int, int | None]:
    """Return the rows of a chunk, and what of a message is read at most; None: all of it."""
    if not plan.needs_emails:
        return FLAG_ROWS, 0
    if plan.needs_contents:
        return CONTENT_ROWS, None
    return (HEADER_ROWS, HEADER_LIMIT) if plan.needs_headers else (STORED_ROWS, STORED_OCTETS)


def _pieces(selected: Selected, positions: Iterable[range], plan: Plan) -> Iterator[range]:
    """Cut positions into chunks of bounded rows and octets."""
    rows, cap = _limits(plan)
    if cap is not None and cap * rows <= CHUNK_OCTETS:
        for span in positions:
            for start in range(span.start, span.stop, rows):
                yield range(start, min(start + rows, span.stop))
        return
    sizes = selected.listing.sizes  # of the present messages: near enough for a limit
    for span in positions:
        start, octets = span.start, 0
        for position in span:
            size = sizes[position] if position < len(sizes) else CHUNK_OCTETS
            octets += size if cap is None else min(size, cap)
            if position > start and (position - start == rows or octets > CHUNK_OCTETS):
                yield range(start, position)
                start, octets = position, size if cap is None else min(size, cap)
        if start < span.stop:
            yield range(start, span.stop)


def _arrays(selected: Selected, piece: range, plan: Plan) -> Chunk:
    """Take what the listing knows about some positions of the view."""
    listing, view = selected.listing, selected.view
    uids: Sequence[int]
    email_ids: Sequence[int]
    if listing.uids is view.uids:
        cut = slice(piece.start, piece.stop)
        uids, email_ids = listing.uids[cut], listing.email_ids[cut]
        return Chunk(
            range(piece.start + 1, piece.stop + 1),
            uids,
            email_ids,
            listing.content_ids(uids, email_ids),
            listing.thread_ids[cut],
            listing.received[cut],
            listing.sizes[cut],
        )
    rows = [(p + 1, view.uids[p], listing.index(view.uids[p])) for p in piece]
    there = [(number, uid, index) for number, uid, index in rows if index is not None]
    plan.gone |= len(there) < len(rows)
    indexes = [index for _, _, index in there]
    uids, email_ids = [uid for _, uid, _ in there], _picked(listing.email_ids, indexes)
    return Chunk(
        [number for number, _, _ in there],
        uids,
        email_ids,
        listing.content_ids(uids, email_ids),
        _picked(listing.thread_ids, indexes),
        _picked(listing.received, indexes),
        _picked(listing.sizes, indexes),
    )


def _picked(column: "array[int]", indexes: Iterable[int]) -> list[int]:
    return [column[index] for index in indexes]


async def _load(session: Session, chunk: Chunk, plan: Plan) -> Chunk:
    """Read what was stored about the messages of a chunk, and their octets when needed."""
    selected = session.open
    if plan.needs_saved:
        saved = await messages.saved(
            session.mail, selected.account, selected.mailbox_id, list(chunk.uids)
        )
        if len(saved) < len(chunk.uids):
            plan.gone = True
            chunk = _kept(chunk, [row for row, uid in enumerate(chunk.uids) if uid in saved])
        chunk.saved = [saved[uid] for uid in chunk.uids]
    if not plan.needs_emails:
        return chunk
    if plan.texts is not None:
        kept = fetch_texts.kept(session, selected, plan.texts, chunk.email_ids)
        if kept is not None:
            chunk.texts = kept
            return chunk
        texts = await fetch_texts.texts(session, selected, plan.texts, chunk.email_ids)
        if texts is not None:
            chunk = _existing(chunk, plan, texts)
            chunk.texts = [texts[email_id] for email_id in chunk.email_ids]
            return chunk
    if plan.only_whole:
        if len(chunk.email_ids) == 1:
            octets = await content.of_email(
                session.mail,
                selected.account,
                chunk.email_ids[0],
                chunk.sizes[0],
                current=selected.is_current,
            )
        else:
            octets = await content.of_emails(session.mail, selected.account, chunk.email_ids)
        chunk = _existing(chunk, plan, octets)
        chunk.whole = [octets[EmailId(email_id)] for email_id in chunk.email_ids]
        return chunk
    return await _load_emails(session, chunk, plan)


async def _load_emails(session: Session, chunk: Chunk, plan: Plan) -> Chunk:
    """Read all that is stored about the messages of a chunk."""
    account = session.open.account
    found = await messages.emails(session.mail, account, chunk.email_ids, header=plan.needs_headers)
    chunk = _existing(chunk, plan, found)
    chunk.emails = [found[EmailId(email_id)] for email_id in chunk.email_ids]
    if plan.needs_contents or plan.has_binary or not STORED.keys().isdisjoint(plan.attributes):
        chunk.envs = [Env.unpack(email.env) for email in chunk.emails]
    blobs = [
        email.blob_id
        for email in chunk.emails
        if plan.needs_contents or (plan.needs_headers and len(email.header) >= HEADER_LIMIT)
    ]
    if blobs:
        found_contents = await content.contents(session.mail, account, blobs)
        chunk.contents = dict(found_contents.items())
    return chunk


def _existing(chunk: Chunk, plan: Plan, found: Container[int]) -> Chunk:
    """Leave out the messages of which nothing was found: they have left meanwhile."""
    if all(map(found.__contains__, chunk.email_ids)):
        return chunk
    rows = [row for row, email_id in enumerate(chunk.email_ids) if email_id in found]
    plan.gone = True
    return _kept(chunk, rows)


def _kept(chunk: Chunk, rows: Sequence[int]) -> Chunk:
    """Leave out what has left the mailbox meanwhile."""

    def kept(column: Sequence[int]) -> list[int]:
        return [column[row] for row in rows]

    return Chunk(
        kept(chunk.numbers),
        kept(chunk.uids),
        kept(chunk.email_ids),
        kept(chunk.content_ids),
        kept(chunk.thread_ids),
        kept(chunk.received),
        kept(chunk.sizes),
        kept(chunk.saved) if chunk.saved else (),
    )
