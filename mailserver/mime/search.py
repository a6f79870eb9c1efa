"""The text of a message that a search looks at, made behind delivery."""

from mailserver.mime import bodies, forms, text, words
from mailserver.mime.headers import HeaderBlock, unfold
from mailserver.mime.message import Message

# Octets of an encoded body that are decoded for one character of the result: markup and base64
# are larger than the text in them.
_SOURCE_FACTOR = 4


class SearchText:
    """Decoded text by place; no NUL in it, each body at most the limit of `search_text`."""

    __slots__ = ("_header", "attachments", "body", "headers")

    def __init__(self, header: HeaderBlock, body: str, attachments: str, headers: str) -> None:
        self._header = header
        self.body = body  # every text part, HTML without its markup, also in attached messages
        self.attachments = attachments  # names, one a line
        self.headers = headers  # all fields, decoded, one a line

    @property
    def subject(self) -> str:
        """The text of every Subject field."""
        return "\n".join(forms.as_text(value) for value in self._header.all("subject"))

    def addresses(self, field: str) -> str:
        """Names and addresses of every field of that name, groups included."""
        lines = []
        for value in self._header.all(field):
            for group in forms.as_grouped_addresses(value):
                if group["name"]:
                    lines.append(group["name"])
                lines += [f"{a['name'] or ''} {a['email']}".lstrip() for a in group["addresses"]]
        return "\n".join(lines)


def search_text(raw: bytes, message: Message, limit: int = 262144) -> SearchText:
    """Return what can be searched; `limit` is the number of characters of the body."""
    names = [part.name for part in message.parts]
    return SearchText(
        message.header,
        body=_body(raw, message, limit),
        attachments="\n".join(name for name in names if name),
        headers=_headers(message.header, limit),
    )


def _headers(header: HeaderBlock, limit: int) -> str:
    """Every field as "name: text", up to `limit` characters."""
    fields = header.pairs()
    text = b"\n".join(b"%b: %b" % (name, unfold(value).strip(b" ")) for name, value in fields)
    if len(text) <= limit and text.isascii() and b"\0" not in text:
        plain = text.decode("ascii")
        if "=?" not in plain:
            return plain  # most headers have nothing to decode, and else few fields
        return "\n".join(_decoded(line) if "=?" in line else line for line in plain.split("\n"))
    lines: list[str] = []
    left = limit
    for name, value in fields:
        line = f"{name.decode('ascii')}: {forms.as_text(value)}"[:left]
        lines.append(line)
        left -= len(line) + 1
        if left <= 0:
            break
    return "\n".join(lines)


def _decoded(line: str) -> str:
    """Decode "name: value" of ASCII."""
    name, _, value = line.partition(": ")
    return f"{name}: {words.decode(value.encode('ascii'))}"


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
