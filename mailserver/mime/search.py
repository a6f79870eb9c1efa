"""The text of a message that a search looks at, made behind delivery."""

from dataclasses import dataclass

from mailserver.mime import bodies, forms, text
from mailserver.mime.headers import HeaderBlock
from mailserver.mime.message import Message

# Octets of an encoded body that are decoded for one character of the result: markup and base64
# are larger than the text in them.
_SOURCE_FACTOR = 4
_ADDRESS_FIELDS = ("from", "to", "cc", "bcc")


@dataclass(frozen=True, slots=True)
class SearchText:
    """Decoded text by place; no NUL in it, each body at most the limit of `search_text`."""

    subject: str
    sender: str  # From: names and addresses
    to: str
    cc: str
    bcc: str
    body: str  # every text part, HTML without its markup, also in attached messages
    attachments: str  # names, one a line
    headers: str  # the other fields, decoded, one a line


def search_text(raw: bytes, message: Message, limit: int = 262144) -> SearchText:
    """Return what can be searched; `limit` is the number of characters of the body."""
    addresses = {name: _addresses(message.header, name) for name in _ADDRESS_FIELDS}
    names = [part.name for part in message.parts]
    return SearchText(
        subject="\n".join(forms.as_text(value) for value in message.header.all("subject")),
        sender=addresses["from"],
        to=addresses["to"],
        cc=addresses["cc"],
        bcc=addresses["bcc"],
        body=_body(raw, message, limit),
        attachments="\n".join(name for name in names if name),
        headers=_headers(message.header, limit),
    )


def _addresses(header: HeaderBlock, name: str) -> str:
    """Names and addresses of every field of that name, groups included."""
    lines = []
    for value in header.all(name):
        for group in forms.as_grouped_addresses(value):
            if group["name"]:
                lines.append(group["name"])
            lines += [f"{a['name'] or ''} {a['email']}".lstrip() for a in group["addresses"]]
    return "\n".join(lines)


def _headers(header: HeaderBlock, limit: int) -> str:
    """Every field as "name: text", up to `limit` characters."""
    lines: list[str] = []
    left = limit
    for name, value in header.pairs():
        line = f"{name.decode('ascii')}: {forms.as_text(value)}"[:left]
        lines.append(line)
        left -= len(line) + 1
        if left <= 0:
            break
    return "\n".join(lines)


def _body(raw: bytes, message: Message, limit: int) -> str:
    """The text of all text parts in order, and the headers of attached messages."""
    pieces: list[str] = []
    left = limit
    for part in message.parts:
        if left <= 0:
            break
        if part.message is not None:
            piece = _headers(part.message.header, left)
        elif part.type == "text":
            end = min(part.body_end, part.body_start + _SOURCE_FACTOR * left)
            octets = raw[part.body_start : end]
            piece = bodies.decode_text(octets, part.charset, part.encoding)[0]
            if part.subtype == "html":
                piece = text.collapse(text.html_text(piece))
            piece = piece[:left]
        else:
            continue
        pieces.append(piece)
        left -= len(piece) + 1
    return "\n".join(pieces)
