"""What FETCH sends: rows of columns, put together by one format string, and sections."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat

from mailserver.imap.commands import fetch_texts
from mailserver.imap.commands.fetch_plan import TEMPLATES, Chunk, Plan
from mailserver.imap.protocol import responses
from mailserver.imap.protocol.fetch import Attribute, Binary, Section
from mailserver.imap.selected import Refused, Selected
from mailserver.imap.session import Session
from mailserver.mime import (
    HEADER_LIMIT,
    PartRow,
    decode_body,
    find,
    header_fields,
    is_known,
    section,
)
from mailserver.model import IdKind, id_text


async def send(session: Session, selected: Selected, plan: Plan, chunk: Chunk) -> None:
    """Send the responses for the messages of a chunk; wait where the client reads slowly."""
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
