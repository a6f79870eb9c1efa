"""Authentication-Results as others read it: whose it is, and what it says (RFC 8601 §2.2)."""

import re

_ID = re.compile(rb'"((?>(?:[^"\\]|\\.)*))"|([^\s;()"]++)', re.DOTALL)
MAX_LENGTH = 4096  # octets in which the name has to be; more of comments is nobody's field
_VERSION = re.compile(rb"\d*+")


def authserv_id(value: bytes) -> str | None:
    """Return the name of the server in a results field, in lower case; None without one."""
    value = value[:MAX_LENGTH]
    found = _ID.match(value, _after_comments(value))
    if found is None:
        return None
    name = re.sub(rb"\\(.)", rb"\1", found[1]) if found[1] is not None else found[2]
    text = name.decode("utf-8", "replace").lower().removesuffix(".")
    if not text.isascii():
        try:
            return text.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    return text


def results(value: bytes) -> bytes:
    """Return the results of a field, without the name of the server before them."""
    found = _ID.match(value, _after_comments(value))
    after = found.end() if found else 0
    after = after + _after_comments(value[after:])
    version = _VERSION.match(value, after)
    after = version.end() if version else after
    after = after + _after_comments(value[after:])
    return value[after:].removeprefix(b";").strip()


def _after_comments(value: bytes) -> int:
    """Return where what is no comment and no space begins (RFC 5322 §3.2.2)."""
    depth, at = 0, 0
    while at < len(value):
        octet = value[at : at + 1]
        if octet == b"(":
            depth += 1
        elif octet == b")" and depth:
            depth -= 1
        elif octet == b"\\" and depth:
            at += 1
        elif not depth and octet not in b" \t\r\n":
            break
        at += 1
    return at
