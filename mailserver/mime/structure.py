"""ENVELOPE, BODYSTRUCTURE and BODY as ready IMAP text (RFC 9051 §7.5.2, §9).

A string is quoted when it is printable ASCII and a literal otherwise; NUL is never written.
Header text stays as it was sent: encoded words are the client's to decode, octets above 0x7F go
out in literals, which IMAP4rev1 clients read too.
"""

import re
from urllib.parse import quote

from mailserver.mime import addresses
from mailserver.mime.addresses import Mailbox
from mailserver.mime.headers import HeaderBlock, one_line
from mailserver.mime.message import Message, Part
from mailserver.mime.parameters import Parameters

_QUOTABLE = bytes(set(range(0x20, 0x7F)) - set(b'"\\'))
_PRINTABLE = re.compile(rb"[ -~]*+\Z")

_ADDRESS_FIELDS = (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc")
_NO_ENVELOPE = b"(" + b" ".join([b"NIL"] * 10) + b")"
_NO_BODY = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0)'
_NO_BODY_EXTENDED = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'


def string(value: bytes) -> bytes:
    """Write a `string`: quoted if it can be, else a literal."""
    if not value.translate(None, _QUOTABLE):
        return b'"%b"' % value
    if b"\0" in value:
        return string(value.replace(b"\0", b""))
    if _PRINTABLE.match(value):
        return b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b"{%d}\r\n%b" % (len(value), value)


def nstring(value: bytes | None) -> bytes:
    """Write an `nstring`: NIL or a string."""
    return b"NIL" if value is None else string(value)


def _text_string(value: str) -> bytes:
    return string(value.encode("utf-8", "replace"))


# ENVELOPE ----------------------------------------------------------------------------------------


def envelope(message: Message) -> bytes:
    """Return the ENVELOPE of a message, parentheses included."""
    return header_envelope(message.header, header_addresses(message.header))


def header_addresses(header: HeaderBlock) -> dict[bytes, list[Mailbox]]:
    """Read the address fields of ENVELOPE that are there, by lower-case name."""
    found = {}
    for name in _ADDRESS_FIELDS:
        value = header.get_last(name)
        if value is not None:
            found[name] = addresses.parse(value)
    return found


def header_envelope(header: HeaderBlock, mailboxes: dict[bytes, list[Mailbox]]) -> bytes:
    """Return the ENVELOPE of a header whose addresses are read already."""
    sender_from = _address_list(mailboxes.get(b"from"))
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        _field(header, b"date"),
        _field(header, b"subject"),
        sender_from,
        _address_list(mailboxes.get(b"sender")) if mailboxes.get(b"sender") else sender_from,
        _address_list(mailboxes.get(b"reply-to")) if mailboxes.get(b"reply-to") else sender_from,
        _address_list(mailboxes.get(b"to")),
        _address_list(mailboxes.get(b"cc")),
        _address_list(mailboxes.get(b"bcc")),
        _field(header, b"in-reply-to"),
        _field(header, b"message-id"),
    )


def _field(header: HeaderBlock, name: bytes) -> bytes:
    value = header.get_last(name)
    return b"NIL" if value is None else string(one_line(value))


def _address_list(mailboxes: list[Mailbox] | None) -> bytes:
    if not mailboxes:
        return b"NIL"
    return b"(%b)" % b"".join([_address(mailbox) for mailbox in mailboxes])


def _address(mailbox: Mailbox) -> bytes:
    name, route, local, domain = mailbox
    return b"(%b %b %b %b)" % (
        b"NIL" if name is None else string(name),
        b"NIL" if route is None else string(route),
        b"NIL" if local is None else string(local),
        b"NIL" if domain is None else string(domain),
    )


# BODYSTRUCTURE -----------------------------------------------------------------------------------


def bodystructure(message: Message) -> bytes:
    """Return BODYSTRUCTURE, extension data included."""
    return both(message.root)[0]


def body(message: Message) -> bytes:
    """Return BODY: the structure without extension data."""
    return both(message.root)[1]


def both(part: Part) -> tuple[bytes, bytes]:
    """Return (BODYSTRUCTURE, BODY) of a part; recursion is as deep as the scan allowed."""
    tail = b"NIL NIL NIL"
    if part.disposition is not None or part.language or part.location is not None:
        tail = b"%b %b %b" % (
            _disposition(part),
            _languages(part.language),
            b"NIL" if part.location is None else _text_string(part.location),
        )
    subtype = b'"%b"' % part.subtype.encode()  # a token, RFC 2045 §5.1
    if part.type == "multipart":
        pairs = [both(child) for child in part.children]
        return (
            b"(%b %b %b %b)"
            % (b"".join([pair[0] for pair in pairs]), subtype, _parameters(part.params), tail),
            b"(%b %b)" % (b"".join([pair[1] for pair in pairs]), subtype),
        )
    params = part.params
    if part.type == "text" and part.charset == "us-ascii" and not _has_charset(params):
        params = (("charset", "us-ascii"), *params)
    fields = b'"%b" %b %b %b %b %b %d' % (
        part.type.encode(),
        subtype,
        _parameters(params),
        nstring(part.content_id),
        nstring(part.description),
        string(part.encoding.encode()),
        part.body_end - part.body_start,
    )
    extension = b"%b %b" % (nstring(part.md5), tail)
    if part.type == "text":
        fields = b"%b %d" % (fields, part.lines)
    elif part.type == "message" and part.subtype in ("rfc822", "global"):
        return _encapsulated(part, fields, extension)
    return b"(%b %b)" % (fields, extension), b"(%b)" % fields


def _encapsulated(part: Part, fields: bytes, extension: bytes) -> tuple[bytes, bytes]:
    """Add the inner envelope and structure; one that was not read is shown as empty text."""
    if part.message is None:
        inner, extended, plain = _NO_ENVELOPE, _NO_BODY_EXTENDED, _NO_BODY
    else:
        inner = envelope(part.message)
        extended, plain = both(part.message.root)
    return (
        b"(%b %b %b %d %b)" % (fields, inner, extended, part.lines, extension),
        b"(%b %b %b %d)" % (fields, inner, plain, part.lines),
    )


def _has_charset(params: Parameters) -> bool:
    return any(name in ("charset", "charset*") for name, _ in params)


def _parameters(params: Parameters) -> bytes:
    """Write body-fld-param. A value that came with a charset keeps a form in ASCII.

    RFC 9051 §7.5.2 names such a parameter "name*". Its value is written as UTF-8 in the form of
    RFC 2231: clients of IMAP4rev1 take no other, and all read this one.
    """
    if not params:
        return b"NIL"
    words = []
    for name, value in params:
        words.append(string(name.encode("ascii", "replace")))
        if name.endswith("*"):
            words.append(string(b"utf-8''" + quote(value, safe="", errors="replace").encode()))
        else:
            words.append(_text_string(value))
    return b"(%b)" % b" ".join(words)


def _disposition(part: Part) -> bytes:
    if part.disposition is None:
        return b"NIL"
    kind = string(part.disposition.encode("ascii", "replace"))
    return b"(%b %b)" % (kind, _parameters(part.disposition_params))


def _languages(tags: tuple[str, ...]) -> bytes:
    if not tags:
        return b"NIL"
    words = [string(tag.encode()) for tag in tags]
    return words[0] if len(words) == 1 else b"(%b)" % b" ".join(words)
