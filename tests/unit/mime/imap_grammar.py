"""A strict reader of the IMAP text that the message core writes (RFC 9051 §9)."""

import re

Value = None | int | bytes | list["Value"]

_QUOTED = re.compile(rb'"((?:[ !#-\[\]-~]|\\["\\])*+)"')
_NUMBER = re.compile(rb"[0-9]++")
_LITERAL = re.compile(rb"\{([0-9]++)\}\r\n")


def read(text: bytes) -> Value:
    """Read one value and nothing after it."""
    value, end = _value(text, 0)
    assert end == len(text), text[end : end + 40]
    return value


def _value(text: bytes, at: int) -> tuple[Value, int]:
    if text.startswith(b"NIL", at):
        return None, at + 3
    if text.startswith(b"(", at):
        return _list(text, at + 1)
    if quoted := _QUOTED.match(text, at):
        return re.sub(rb"\\(.)", rb"\1", quoted[1]), quoted.end()
    if literal := _LITERAL.match(text, at):
        end = literal.end() + int(literal[1])
        octets = text[literal.end() : end]
        assert len(octets) == int(literal[1])
        assert b"\0" not in octets
        return octets, end
    number = _NUMBER.match(text, at)
    assert number, text[at : at + 40]
    return int(number[0]), number.end()


def _list(text: bytes, at: int) -> tuple[list[Value], int]:
    items: list[Value] = []
    while True:
        value, at = _value(text, at)
        items.append(value)
        if text.startswith(b")", at):
            return items, at + 1
        # lists of addresses and of bodies stand side by side, all else is one space apart
        if text.startswith(b"(", at) and isinstance(value, list):
            continue
        assert text.startswith(b" ", at), text[at : at + 40]
        at += 1


def check_envelope(value: Value) -> None:
    assert isinstance(value, list)
    assert len(value) == 10
    for place in (0, 1, 8, 9):
        _nstring(value[place])
    for place in range(2, 8):
        addresses = value[place]
        if addresses is None:
            continue
        assert isinstance(addresses, list)
        assert addresses
        for address in addresses:
            assert isinstance(address, list)
            assert len(address) == 4
            for part in address:
                _nstring(part)


def check_body(value: Value, *, extended: bool) -> None:
    assert isinstance(value, list)
    if isinstance(value[0], list):
        count = next(i for i, item in enumerate(value) if not isinstance(item, list))
        for item in value[:count]:
            check_body(item, extended=extended)
        _string(value[count])
        rest = value[count + 1 :]
        if extended:
            _parameters(rest[0])
            _tail(rest[1:])
        else:
            assert rest == []
        return
    media, subtype, params, cid, description, encoding, octets = value[:7]
    for string in (media, subtype, encoding):
        _string(string)
    _parameters(params)
    _nstring(cid)
    _nstring(description)
    assert isinstance(octets, int)
    rest = value[7:]
    if media == b"text":
        assert isinstance(rest.pop(0), int)
    elif media == b"message" and subtype in (b"rfc822", b"global"):
        check_envelope(rest.pop(0))
        check_body(rest.pop(0), extended=extended)
        assert isinstance(rest.pop(0), int)
    if extended:
        _nstring(rest.pop(0))
        _tail(rest)
    else:
        assert rest == []


def _string(value: Value) -> None:
    assert isinstance(value, bytes)


def _nstring(value: Value) -> None:
    assert value is None or isinstance(value, bytes)


def _parameters(value: Value) -> None:
    if value is None:
        return
    assert isinstance(value, list)
    assert value
    assert len(value) % 2 == 0
    for item in value:
        _string(item)


def _tail(rest: list[Value]) -> None:
    disposition, language, location = rest
    if disposition is not None:
        assert isinstance(disposition, list)
        kind, params = disposition
        _string(kind)
        _parameters(params)
    if isinstance(language, list):
        for tag in language:
            _string(tag)
    else:
        _nstring(language)
    _nstring(location)
