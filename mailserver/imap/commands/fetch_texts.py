"""What FETCH shows of stored structures and headers: put together once and kept by the process.

These texts never change, so FETCH 1:* (ENVELOPE BODYSTRUCTURE) or of a list of header fields, which
a client sends again and again, is a look-up for each message and no query.
"""

from collections.abc import Callable, Sequence

from mailserver.imap.protocol import responses
from mailserver.imap.protocol.fetch import Attribute, Binary, Item, Section
from mailserver.imap.protocol.structure import without_global
from mailserver.imap.selected import Selected
from mailserver.imap.session import Session
from mailserver.mail import messages
from mailserver.mime import HEADER_LIMIT, Env, field_chooser
from mailserver.model import Description

PREVIEW_LIMIT = 200  # characters, RFC 8970 §3.1
_NO_ENV = Env((b"", b"", b"", b"", b"", ""))  # of items that need none
_ROW_SIZE = 150  # octets of memory that a text costs besides itself

STORED: dict[Attribute, Callable[[Env], bytes]] = {
    Attribute.ENVELOPE: lambda env: env.envelope,
    Attribute.BODY: lambda env: env.body,
    Attribute.BODYSTRUCTURE: lambda env: env.bodystructure,
    Attribute.PREVIEW: lambda env: responses.string(env.preview[:PREVIEW_LIMIT].encode()),
}


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


async def texts(
    session: Session,
    selected: Selected,
    items: tuple[Attribute | Section, ...],
    email_ids: Sequence[int],
) -> dict[int, bytes] | None:
    """Return the texts of emails that exist; None when a header is too long to be stored whole."""
    mail = session.mail
    utf8 = session.utf8 or _STRUCTURES.isdisjoint(items)
    shelf = mail.fetched.get((selected.account, selected.mailbox_id, items, utf8))
    kept = shelf.rows
    found = {each: kept[each] for each in email_ids if each in kept}
    if len(found) == len(email_ids):
        return found
    missing = [email_id for email_id in email_ids if email_id not in found]
    wants_header = any(isinstance(item, Section) for item in items)
    wants_env = any(item in STORED for item in items if isinstance(item, Attribute))
    made: dict[int, bytes] = {}
    size = 0
    text_of = _maker(items, utf8=utf8)
    for row in await messages.descriptions(
        mail, selected.account, missing, env=wants_env, header=wants_header
    ):
        if wants_header and len(row.header) >= HEADER_LIMIT:
            return None
        text = made[row.id] = text_of(row)
        size += _ROW_SIZE + len(text)
    mail.fetched.keep(shelf, made, size)
    found.update(made)
    return found


def _maker(items: tuple[Attribute | Section, ...], *, utf8: bool) -> Callable[[Description], bytes]:
    """Return what puts the text of a message together, with all that is the same for each."""
    labels = [item.label if isinstance(item, Section) else item.value for item in items]
    template = b" ".join(label.replace(b"%", b"%%") + b" %b" for label in labels)
    values = [_value(item, utf8=utf8) for item in items]

    def made(row: Description) -> bytes:
        env = _NO_ENV if row.env is None else Env.unpack(row.env)
        return template % tuple([value(row.header, env) for value in values])

    return made


def _value(item: Attribute | Section, *, utf8: bool) -> Callable[[bytes, Env], bytes]:
    if isinstance(item, Section):
        names = [name.decode("ascii", "replace") for name in item.fields]
        chosen = field_chooser(names, exclude=item.text.endswith("NOT"))
        return lambda header, env: responses.literal(chosen(header))
    stored = STORED[item]
    if utf8 or item not in _STRUCTURES:
        return lambda header, env: stored(env)
    return lambda header, env: without_global(stored(env))
