"""What FETCH shows of stored structures and headers: put together once and kept by the process.

These texts never change, so FETCH 1:* (ENVELOPE BODYSTRUCTURE) or of a list of header fields, which
a client sends again and again, is a look-up for each message and no query.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

from mailserver.imap.protocol import responses
from mailserver.imap.protocol.fetch import Attribute, Binary, Item, Section
from mailserver.imap.protocol.structure import any_global, without_global
from mailserver.imap.selected import Selected
from mailserver.imap.session import Session
from mailserver.mail import messages
from mailserver.mail.shelves import Shelf
from mailserver.mime import HEADER_LIMIT, Env, field_chooser, structures
from mailserver.model import Descriptions

PREVIEW_LIMIT = 200  # characters, RFC 8970 §3.1
HEAD = 1024  # octets of a stored env in which ENVELOPE and BODYSTRUCTURE mostly are
WHOLE = 1 << 30  # more than an env has
_ROW_SIZE = 150  # octets of memory that a text costs besides itself

STORED: dict[Attribute, Callable[[Env], bytes]] = {
    Attribute.ENVELOPE: lambda env: env.envelope,
    Attribute.BODY: lambda env: env.body,
    Attribute.BODYSTRUCTURE: lambda env: env.bodystructure,
    Attribute.PREVIEW: lambda env: responses.string(env.preview[:PREVIEW_LIMIT].encode()),
}


# what an env begins with, as `mime.structures` returns it
_FIRST: dict[Attribute, Callable[[tuple[bytes, bytes]], bytes]] = {
    Attribute.ENVELOPE: itemgetter(0),
    Attribute.BODYSTRUCTURE: itemgetter(1),
}
_PAIR = (Attribute.ENVELOPE, Attribute.BODYSTRUCTURE)  # in the order of `mime.structures`
_STRUCTURES = frozenset({Attribute.BODY, Attribute.BODYSTRUCTURE})


def shown(attribute: Attribute, env: Env, *, utf8: bool) -> bytes:
    """Return what was stored, as a client that enabled UTF-8 or one of RFC 3501 reads it."""
    text = STORED[attribute](env)
    return text if utf8 or attribute not in _STRUCTURES else without_global(text)


def of(items: Sequence[Item]) -> tuple[Attribute | Section, ...] | None:
    """Return those of the items that such a text shows; None when there is one it cannot show."""
    found: list[Attribute | Section] = []
    for item in items:
        if isinstance(item, Binary):
            return None
        if isinstance(item, Section):
            if not item.fields or not item.in_header or item.offset is not None:
                return None
            found.append(item)
        elif item in STORED:
            found.append(item)
    return tuple(found) or None


def kept(
    session: Session,
    selected: Selected,
    items: tuple[Attribute | Section, ...],
    email_ids: Sequence[int],
) -> list[bytes] | None:
    """Return the texts of emails; None when one of them is not in memory."""
    rows = _shelf(session, selected, items).rows
    try:
        return [rows[email_id] for email_id in email_ids]
    except KeyError:
        return None


async def texts(
    session: Session,
    selected: Selected,
    items: tuple[Attribute | Section, ...],
    email_ids: Sequence[int],
) -> dict[int, bytes] | None:
    """Return the texts of emails that exist; None when a header is too long to be stored whole."""
    mail = session.mail
    shelf = _shelf(session, selected, items)
    rows = shelf.rows
    found = {each: rows[each] for each in email_ids if each in rows}
    missing = [email_id for email_id in email_ids if email_id not in found]
    utf8 = _utf8(session, items)
    wants_header = any(isinstance(item, Section) for item in items)
    limit = _limit(items)
    made: dict[int, bytes] = {}
    while missing:
        described = await messages.descriptions(
            mail,
            selected.account,
            missing,
            env=limit,
            header=wants_header,
            current=selected.is_current,
        )
        if any(len(header) >= HEADER_LIMIT for header in described.headers):
            return None
        missing = _make(items, described, made, utf8=utf8, whole=limit == WHOLE)
        limit = WHOLE  # for what is longer than most
    mail.fetched.keep(shelf, made, _ROW_SIZE * len(made) + sum(map(len, made.values())))
    if not found:
        return made
    found.update(made)
    return found


def _utf8(session: Session, items: tuple[Attribute | Section, ...]) -> bool:
    return session.utf8 or _STRUCTURES.isdisjoint(items)


def _shelf(
    session: Session, selected: Selected, items: tuple[Attribute | Section, ...]
) -> Shelf[bytes]:
    key = (selected.account, selected.mailbox_id, items, _utf8(session, items))
    return session.mail.fetched.get(key)


def _limit(items: tuple[Attribute | Section, ...]) -> int:
    """Return how many octets of envs are read at first."""
    attributes = {item for item in items if isinstance(item, Attribute)}
    if not attributes:
        return 0
    return HEAD if attributes <= _FIRST.keys() else WHOLE


def _make(
    items: tuple[Attribute | Section, ...],
    described: Descriptions,
    made: dict[int, bytes],
    *,
    utf8: bool,
    whole: bool,
) -> list[int]:
    """Make texts by email, column by column; return the emails of which more has to be read."""
    ids, packed, headers = described
    shortens = not utf8 and any_global(packed)
    envs: Sequence[Any] = [Env.unpack(each) for each in packed] if whole else structures(packed)
    cut = [] if whole else [row for row, env in enumerate(envs) if env is None]
    if cut:
        left = [row for row, env in enumerate(envs) if env is not None]
        missing = [ids[row] for row in cut]
        ids, envs = [ids[row] for row in left], [envs[row] for row in left]
        headers = [headers[row] for row in left] if headers else headers
    else:
        missing = []
    rows: Iterable[tuple[bytes, ...]] = envs
    if whole or shortens or items != _PAIR:
        rows = zip(
            *(_column(item, envs, headers, whole=whole, shortens=shortens) for item in items),
            strict=True,
        )
    template = b" ".join([_label(item).replace(b"%", b"%%") + b" %b" for item in items])
    made.update(zip(ids, [template % row for row in rows], strict=True))
    return missing


def _label(item: Attribute | Section) -> bytes:
    return item.label if isinstance(item, Section) else item.value


def _column(
    item: Attribute | Section,
    envs: Sequence[Any],
    headers: Iterable[bytes],
    *,
    whole: bool,
    shortens: bool,
) -> Iterable[bytes]:
    if isinstance(item, Section):
        return _fields_column(item, headers)
    column = map(STORED[item] if whole else _FIRST[item], envs)
    return map(without_global, column) if shortens and item in _STRUCTURES else column


def _fields_column(item: Section, headers: Iterable[bytes]) -> Iterable[bytes]:
    names = [name.decode("ascii", "replace") for name in item.fields]
    chosen = field_chooser(names, exclude=item.text.endswith("NOT"))
    return map(responses.literal, map(chosen, headers))
