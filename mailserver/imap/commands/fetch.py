"""FETCH: rows of columns, put together by one format string.

Flags, UIDs, sizes and dates come from the listing's arrays and cost no query. ENVELOPE and its like
were rendered at delivery and are read in chunks, the next one while one is written. Only sections
below the header open a message.
"""

import asyncio
from array import array
from collections.abc import AsyncGenerator, Callable, Container, Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from itertools import chain, repeat

from mailserver.imap.commands import fetch_texts
from mailserver.imap.commands.condstore import make_aware, send_vanished
from mailserver.imap.commands.fetch_plan import TEMPLATES, Chunk, Plan
from mailserver.imap.commands.fetch_texts import STORED
from mailserver.imap.commands.limits import newest
from mailserver.imap.protocol import responses
from mailserver.imap.protocol.errors import ProtocolError
from mailserver.imap.protocol.fetch import Attribute, Binary, Fetch, Item, Section
from mailserver.imap.protocol.sequences import SequenceSet, flatten, spans
from mailserver.imap.selected import EXPUNGE_ISSUED, Refused, Selected
from mailserver.imap.session import Session
from mailserver.mail import content, mailboxes, messages, optimistic
from mailserver.mime import (
    HEADER_LIMIT,
    Env,
    PartRow,
    decode_body,
    find,
    header_fields,
    is_known,
    section,
)
from mailserver.model import (
    SEEN,
    EmailId,
    FlagChange,
    Flags,
    IdKind,
    Right,
    id_text,
)

FLAG_ROWS = 4096  # messages of a chunk that needs only arrays
STORED_ROWS = 500  # messages of a chunk that needs what was stored at delivery: 1 ms of CPU
HEADER_ROWS = 200  # messages of a chunk that needs their headers, which takes longer
CONTENT_ROWS = 50  # messages of a chunk that needs their octets
STORED_OCTETS = 4096  # that a stored envelope may have, about
CHUNK_OCTETS = 8 * 1024 * 1024  # of a chunk, as far as one message alone is not larger


async def fetch(session: Session, command: Fetch) -> bytes | None:
    r"""Send data of messages; sections that are not PEEKed set \Seen first (RFC 3501 §6.4.5)."""
    selected = session.open
    if Attribute.MODSEQ in command.items:
        await make_aware(session)
    if command.vanished:
        await _tell_vanished(session, command)
    positions = _positions(session, command)
    plan = Plan.of(command.items)
    must_see = command.sets_seen and not selected.read_only and Right.SEEN in selected.rights
    tells_modseq = must_see and session.condstore  # and so the UID too (RFC 7162 §3.2.4)
    with_uid = (command.by_uid or session.qresync or tells_modseq) and not session.uidonly
    if with_uid and Attribute.UID not in plan.attributes:
        plan.attributes = (Attribute.UID, *plan.attributes)
    async with aclosing(_chunks(session, selected, positions, plan)) as chunks:
        async for chunk in chunks:
            if must_see:
                must_see = False  # with the first octets at hand, in one batch for all messages
                await _set_seen(session, selected, flatten(positions))
                if Attribute.FLAGS not in plan.attributes:
                    plan.attributes = (*plan.attributes, Attribute.FLAGS)
                if tells_modseq and Attribute.MODSEQ not in plan.attributes:
                    plan.attributes = (*plan.attributes, Attribute.MODSEQ)
            await _send(session, selected, plan, chunk)
    return EXPUNGE_ISSUED if plan.gone else None


async def send_unasked(session: Session, uids: Sequence[int], items: Sequence[Item]) -> None:
    """Send data of messages that have just come; what is gone or cannot be told is passed over."""
    singly = any(isinstance(item, Binary) for item in items)  # one may have an unknown encoding
    for some in [[uid] for uid in uids] if singly else [uids]:
        messages = SequenceSet(tuple((uid, uid) for uid in some))
        with suppress(Refused):
            await fetch(session, Fetch(messages, by_uid=True, items=tuple(items)))


async def tell_flags(session: Session, positions: Iterable[range], *, with_uid: bool) -> bool:
    """Send the flags of messages that a client has changed; tell whether some have left."""
    selected = session.open
    attributes = [Attribute.FLAGS]
    if session.condstore:
        attributes.append(Attribute.MODSEQ)
    # RFC 7162 §3.2.4: whoever knows mod-sequences is told UIDs with them
    if (with_uid or session.condstore) and not session.uidonly:
        attributes.insert(0, Attribute.UID)
    plan = Plan.of(attributes)
    async for chunk in _array_chunks(selected, _pieces(selected, positions, plan), plan):
        await _send(session, selected, plan, chunk)
    return plan.gone


def _positions(session: Session, command: Fetch) -> Sequence[range]:
    """Return the positions of what is asked for: of a stretch, what changed."""
    selected = session.open
    positions = selected.view.positions(command.messages, by_uid=command.by_uid)
    if command.partial is not None:
        positions = spans(command.partial.of(flatten(positions)))
    if command.changed_since is not None:
        positions = _changed(selected, positions, command.changed_since)
    return newest(session, positions)


async def _tell_vanished(session: Session, command: Fetch) -> None:
    """Tell what has left, before anything that has a sequence number (RFC 7162 §3.2.6)."""
    if not session.qresync:
        raise ProtocolError("VANISHED needs ENABLE QRESYNC")
    await session.synchronize(may_expunge=True, ask=True)
    mailbox = await mailboxes.by_id(session.mail, session.open.account, session.open.mailbox_id)
    since = command.changed_since or 0
    await send_vanished(session, since, command.messages, mailbox.uidnext)


def _changed(selected: Selected, positions: Sequence[range], modseq: int) -> list[range]:
    """Keep the positions of messages that changed after a mod-sequence (RFC 7162 §3.1.4.1)."""
    changed = (selected.view.position(uid) for uid in selected.listing.changed_since(modseq))
    spans = iter(positions)
    span = next(spans, None)
    found: list[range] = []
    for position in changed:
        while span is not None and position is not None and position >= span.stop:
            span = next(spans, None)
        if span is None:
            break
        if position is None or position < span.start:
            continue
        if found and found[-1].stop == position:
            found[-1] = range(found[-1].start, position + 1)
        else:
            found.append(range(position, position + 1))
    return found


async def _set_seen(session: Session, selected: Selected, positions: Sequence[int]) -> None:
    listing, view = selected.listing, selected.view
    if listing.uids is view.uids:
        unseen = [view.uids[p] for p in positions if not listing.flags[p] & SEEN]
    else:
        unseen = [view.uids[position] for position in positions]
    if not unseen:
        return
    stored = await optimistic.store(
        session.mail,
        listing,
        unseen,
        FlagChange.ADD,
        Flags(SEEN),
        heard=selected.subscription.modseq,
    )
    if stored.modseq:
        selected.own_changes.add(stored.modseq)


# Reading -----------------------------------------------------------------------------------------


async def _chunks(
    session: Session, selected: Selected, positions: Sequence[range], plan: Plan
) -> AsyncGenerator[Chunk, None]:
    """Read chunk after chunk, the next one while the caller writes this one."""
    pieces = _pieces(selected, positions, plan)
    if not plan.needs_rows:
        async for chunk in _array_chunks(selected, pieces, plan):
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


async def _array_chunks(
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


# Writing -----------------------------------------------------------------------------------------


async def _send(session: Session, selected: Selected, plan: Plan, chunk: Chunk) -> None:
    if chunk.texts or not plan.sections:
        session.send(_lines(session, selected, plan, chunk))
        await session.relieve()
        return
    columns = [_COLUMNS[attribute](session, selected, chunk) for attribute in plan.attributes]
    word, numbers = _numbered(session, chunk)
    template = plan.template(word)
    if chunk.whole and plan.only_text is not None:
        _send_whole(session, template + plan.only_text, chunk.whole, numbers, columns)
        await session.relieve()
        return
    has_binary = plan.has_binary
    for row, text in enumerate([template % row for row in zip(numbers, *columns, strict=True)]):
        if has_binary:  # whether it can be decoded is known before the line begins
            _demand_known_encodings(plan, chunk, row)
        line = text
        for wanted in plan.sections:
            line += wanted.label
            if isinstance(wanted, Binary):
                session.send(b"%b %b" % (line, _binary(wanted, chunk, row)))
            else:
                _send_section(session, line, _octets(wanted, chunk, row))
            await session.relieve()
            line = b" "
        session.send(b")\r\n")


def _send_whole(
    session: Session,
    template: bytes,
    whole: Iterable[bytes],
    numbers: Iterable[int],
    columns: Iterable[Iterable[object]],
) -> None:
    """Send messages as they are, each after the line that tells of it; nothing is copied."""
    octets = [_without_nul(each) for each in whole]
    rows = zip(numbers, *columns, map(len, octets), strict=True)
    heads = [template % row for row in rows]
    session.send_all(list(chain.from_iterable(zip(heads, octets, repeat(b")\r\n"), strict=False))))


def _numbered(session: Session, chunk: Chunk) -> tuple[bytes, Sequence[int]]:
    """Return FETCH with sequence numbers or, as RFC 9586 §3 says, UIDFETCH with UIDs."""
    return (b"UIDFETCH", chunk.uids) if session.uidonly else (b"FETCH", chunk.numbers)


def _lines(session: Session, selected: Selected, plan: Plan, chunk: Chunk) -> bytes:
    """Return whole lines: what the listing knows, then the text of what is stored."""
    attributes = plan.listed if chunk.texts else plan.attributes
    columns = [_COLUMNS[attribute](session, selected, chunk) for attribute in attributes]
    shown = [TEMPLATES[attribute] for attribute in attributes]
    if chunk.texts:
        columns.append(chunk.texts)
        shown.append(b"%b")
    word, numbers = _numbered(session, chunk)
    template = b"* %d " + word + b" (" + b" ".join(shown) + b")\r\n"
    rows = zip(numbers, *columns, strict=True)
    # all lines at once: to write each by itself and join them takes four times as long
    return template * len(numbers) % tuple(chain.from_iterable(rows))


def _flags_column(session: Session, selected: Selected, chunk: Chunk) -> Iterable[bytes]:
    listing, view = selected.listing, selected.view
    if not isinstance(chunk.numbers, range) or listing.uids is not view.uids:
        return [_flags_of(session, selected, uid) for uid in chunk.uids]
    start, stop = chunk.numbers.start - 1, chunk.numbers.stop - 1
    table = session.flags_table
    column = [table[bits] for bits in listing.flags[start:stop]]
    for span in () if session.rev2 else view.recent_spans():
        table = session.recent_flags_table
        for position in range(max(span.start, start), min(span.stop, stop)):
            column[position - start] = table[listing.flags[position]]
    if listing.keywords:
        for row, uid in enumerate(chunk.uids):
            if uid in listing.keywords:
                column[row] = session.flags_text(selected, start + row, uid)
    return column


def _flags_of(session: Session, selected: Selected, uid: int) -> bytes:
    index = selected.listing.index(uid)
    return b"" if index is None else session.flags_text(selected, index, uid)


def _modseq_column(session: Session, selected: Selected, chunk: Chunk) -> Iterable[int]:
    listing = selected.listing
    if isinstance(chunk.numbers, range) and listing.uids is selected.view.uids:
        return listing.modseqs[chunk.numbers.start - 1 : chunk.numbers.stop - 1]
    indexes = (listing.index(uid) for uid in chunk.uids)
    return [1 if index is None else listing.modseqs[index] for index in indexes]


def _ids(kind: IdKind, values: Iterable[int]) -> Iterable[bytes]:
    return [id_text(kind, value).encode("ascii") for value in values]


_Column = Callable[[Session, Selected, Chunk], Iterable[object]]


def _stored_column(attribute: Attribute) -> _Column:
    return lambda session, selected, chunk: [
        fetch_texts.shown(attribute, env, utf8=session.utf8) for env in chunk.envs
    ]


_COLUMNS: dict[Attribute, _Column] = {
    Attribute.UID: lambda session, selected, chunk: chunk.uids,
    Attribute.FLAGS: _flags_column,
    Attribute.INTERNALDATE: lambda session, selected, chunk: map(
        responses.date_time, chunk.received
    ),
    Attribute.SIZE: lambda session, selected, chunk: chunk.sizes,
    Attribute.MODSEQ: _modseq_column,
    Attribute.EMAILID: lambda session, selected, chunk: _ids(IdKind.EMAIL, chunk.content_ids),
    Attribute.THREADID: lambda session, selected, chunk: _ids(IdKind.THREAD, chunk.thread_ids),
    Attribute.SAVEDATE: lambda session, selected, chunk: map(responses.date_time, chunk.saved),
    **{attribute: _stored_column(attribute) for attribute in fetch_texts.STORED},
}


def _send_section(session: Session, text: bytes, octets: bytes | None) -> None:
    """Send what stands before a section, and the section, which is not copied."""
    if octets is None:
        session.send(text + b" NIL")
        return
    session.send(b"%b {%d}\r\n" % (text, len(octets)))
    session.send(_without_nul(octets))


def _without_nul(octets: bytes) -> bytes:
    """Return as many octets without NUL (RFC 3501 §4.3.1); BINARY shows what it was."""
    return octets.replace(b"\0", b"\x80")


def _octets(wanted: Section, chunk: Chunk, row: int) -> bytes | None:
    """Return what a section names, or the stretch of it; None when the message has no such part."""
    octets = _named(wanted, chunk, row)
    if octets is None or wanted.offset is None:
        return octets
    return octets[wanted.offset : wanted.offset + wanted.length]


def _named(wanted: Section, chunk: Chunk, row: int) -> bytes | None:
    """Return what a section names, None when the message has no such part."""
    if chunk.whole:
        return chunk.whole[row]
    email = chunk.emails[row]
    if wanted.in_header and len(email.header) < HEADER_LIMIT:
        found = email.header
    else:
        whole = chunk.contents[email.blob_id]
        if not wanted.specifier:
            return whole
        place = section(whole, chunk.parts(row), wanted.specifier)
        if place is None:
            return None
        found = whole[place[0] : place[1]]
    if not wanted.fields:
        return found
    names = [name.decode("ascii", "replace") for name in wanted.fields]
    return header_fields(found, names, exclude=wanted.text.endswith("NOT"))


def _demand_known_encodings(plan: Plan, chunk: Chunk, row: int) -> None:
    """Refuse a part whose transfer encoding nobody knows (RFC 3516 §4.3)."""
    parts = chunk.parts(row)
    for wanted in plan.sections:
        if isinstance(wanted, Binary) and wanted.part:
            part = find(parts, wanted.part)
            if part is not None and not _is_identity(part) and not is_known(part.encoding):
                raise Refused(b"UNKNOWN-CTE", "The transfer encoding of a part is unknown")


def _is_identity(part: PartRow) -> bool:
    """Whether nothing is decoded: a transfer encoding belongs to leaves (RFC 2045 §6.4)."""
    return part.type in ("multipart", "message")


def _binary(wanted: Binary, chunk: Chunk, row: int) -> bytes:
    email = chunk.emails[row]
    part = find(chunk.parts(row), wanted.part) if wanted.part else None
    if wanted.part and part is None:
        return b"0" if wanted.size_only else b"NIL"
    if wanted.size_only:
        if part is None:
            return b"%d" % email.size
        return b"%d" % (part.body_end - part.body_start if _is_identity(part) else part.size)
    octets = chunk.contents[email.blob_id]
    if part is not None:
        octets = octets[part.body_start : part.body_end]
        if not _is_identity(part):
            octets = decode_body(octets, part.encoding)
    if wanted.offset is not None:
        octets = octets[wanted.offset : wanted.offset + wanted.length]
    return b"~" + responses.literal(octets) if b"\0" in octets else responses.literal(octets)
