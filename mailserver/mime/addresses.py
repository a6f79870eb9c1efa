"""Address lists (RFC 5322 §3.4, §4.4), read with the tolerance of RFC 7103 §7.1, never failing.

Names and local parts stay raw octets here: IMAP shows them as they are, JMAP decodes them.
"""

import re
from typing import NamedTuple

# Addresses read from one field. Real lists stay below; more would only blow up what is stored.
ADDRESS_LIMIT = 5000


class Mailbox(NamedTuple):
    """One address, or a mark around the members of a group.

    As in IMAP (RFC 9051 §7.5.2): `domain` None marks a group; with a `local` it starts one of that
    name, without it ends it. An address that lacks a domain has `domain` b"".
    """

    name: bytes | None
    route: bytes | None
    local: bytes | None
    domain: bytes | None


GROUP_END = Mailbox(None, None, None, None)

# The shapes of nearly all addresses: "Name" <a@b>, Name <a@b>, <a@b>, a@b.
_PLAIN = re.compile(
    rb"[\s,]*+(?:(?:\"([^\"\\\r\n]*+)\"\s*+|([^\"\\()<>\[\]:;@,]*+))"
    rb"<([^\s<>()\[\]\\,;:@\"]++)@([^\s<>()\[\]\\,;:@\"]++)>"
    rb"|([^\s<>()\[\]\\,;:@\"]++)@([^\s<>()\[\]\\,;:@\"]++))"
    rb"\s*+(?:,|\Z)"
)
_TOKEN = re.compile(
    rb"(\s++)|(\"(?>(?:[^\"\\]++|\\.)*)\"?+)|(\[[^\[\]]*+\]?+)"
    rb"|(,[\s,]*+|<[\s<]*+|>[\s>]*+|[@:;])|([^\s\"\[<>@,:;(]++|\(|.)",
    re.DOTALL,
)
_PAREN = re.compile(rb"[()\\]")
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_ADDR_SPEC = re.compile(rb"[^\s<>@,;:()\"]++@[^\s<>@,;:()\"]++")
_ADDR_SPEC_REACH = 320  # octets around an "@" that are looked at, RFC 5321 §4.5.3.1
_UNCLOSED_LIMIT = 10  # comments without an end that are looked through


def parse(value: bytes) -> list[Mailbox]:
    """Read an address-list; linear in the length of the value."""
    found: list[Mailbox] = []
    position, end = 0, len(value)
    while position < end and len(found) < ADDRESS_LIMIT:
        match = _PLAIN.match(value, position)
        if match is None:
            return _Reader(value, position, found).read()
        quoted, name, local, domain, bare_local, bare_domain = match.groups()
        if bare_local is not None:
            found.append(Mailbox(None, None, bare_local, bare_domain))
        else:
            words = (name if quoted is None else quoted).split()
            found.append(Mailbox(b" ".join(words) or None, None, local, domain))
        position = match.end()
    return found


def _comment(value: bytes, start: int) -> tuple[bytes, int]:
    """Return the inside of the comment at `start` and where it ends; nesting is only counted."""
    depth, position = 0, start
    while mark := _PAREN.search(value, position):
        position = mark.end()
        if mark[0] == b"(":
            depth += 1
        elif mark[0] == b"\\":
            position += 1
        else:
            depth -= 1
            if depth == 0:
                return value[start + 1 : mark.start()], position
    return value[start + 1 :], len(value)


class _Reader:
    """Reads one token after the other; every token is looked at once."""

    def __init__(self, value: bytes, position: int, found: list[Mailbox]) -> None:
        self.value = value
        self.position = position
        self.found = found
        self.outer: list[bytes] = []  # tokens outside of angle brackets, white space as b" "
        self.angle: list[bytes] | None = None  # tokens inside of them
        self.closed = False
        self.comment: bytes | None = None
        self.in_group = False
        self.unclosed = 0

    def read(self) -> list[Mailbox]:
        """Read up to the end of the value."""
        value, end = self.value, len(self.value)
        while self.position < end and len(self.found) < ADDRESS_LIMIT:
            if value[self.position] == 0x28 and self.unclosed < _UNCLOSED_LIMIT:
                self._take_comment()
                continue
            match = _TOKEN.match(value, self.position)
            assert match is not None  # the pattern ends with "any octet"
            self.position = match.end()
            if match.lastindex == 4:
                self._special(match[0])
            elif match.lastindex == 1:
                self._add(b" ")
            elif match.lastindex == 2:
                self._quoted(match[0])
            else:
                self._add(match[0])
        self._finish()
        if self.in_group:
            self.found.append(GROUP_END)
        return self.found

    def _add(self, token: bytes) -> None:
        (self.outer if self.angle is None or self.closed else self.angle).append(token)

    def _take_comment(self) -> None:
        text, end = _comment(self.value, self.position)
        if end >= len(self.value) and len(text) == len(self.value) - self.position - 1:
            self.unclosed += 1
            if self.angle is None:
                # RFC 7103 §7.1.4: a comment that nobody closed must not hide the address
                end = self._hidden_address(end)
                text = self.value[self.position + 1 : end]
        self.comment = text
        self.position = max(end, self.position + 1)
        self._add(b" ")

    def _hidden_address(self, end: int) -> int:
        """Return where an address in an unclosed comment starts, `end` without one."""
        at = self.value.find(b"@", self.position)
        if at < 0:
            return end
        start = max(self.position + 1, at - _ADDR_SPEC_REACH)
        address = _ADDR_SPEC.search(self.value, start, at + _ADDR_SPEC_REACH)
        if address is None:
            return end
        return address.start() - (self.value[address.start() - 1] == 0x3C)

    def _quoted(self, token: bytes) -> None:
        if len(token) > 1 and token.endswith(b'"'):
            self._add(token)
            return
        # RFC 7103 §7.1.6: the closing quote is missing; the name ends where the address starts
        start = self.position - len(token)
        angle = token.find(b"<")
        if angle > 0:
            self.position = start + angle
            self._add(token[:angle].rstrip() + b'"')
        else:
            self.position = start + 1

    def _special(self, token: bytes) -> None:
        kind = token[:1]
        if kind == b"<":
            self.angle = self.angle if self.angle and not self.closed else []
            self.closed = False
        elif kind == b">":
            self.closed = self.angle is not None
        elif kind == b"@":
            self._add(token)
        elif self.angle is not None and not self.closed and self.angle[:1] == [b"@"]:
            self._add(kind)  # a source route: "@" domain *("," "@" domain) ":"
        elif kind == b":" and not self.in_group and b"@" not in self.outer:
            self.found.append(Mailbox(None, None, _phrase(self.outer) or b"", None))
            self.outer, self.comment, self.in_group = [], None, True
        elif kind == b":":
            self._add(token)
        else:
            self._finish()
            if kind == b";" and self.in_group:
                self.found.append(GROUP_END)
                self.in_group = False

    def _finish(self) -> None:
        """Make an address of what was collected since the last comma."""
        mailbox: Mailbox | None = None
        if self.angle is not None:
            name = _phrase(self.outer) or self.comment
            mailbox = _address(self.angle, name)
        elif self.outer.count(b" ") < len(self.outer):  # a comment alone names nobody
            mailbox = _address(self.outer, self.comment)
        if mailbox is not None:
            self.found.append(mailbox)
        self.outer, self.angle, self.closed, self.comment = [], None, False, None


def _unquote(token: bytes) -> bytes:
    inside = token[1:-1]
    return _QUOTED_PAIR.sub(rb"\1", inside) if b"\\" in inside else inside


def _phrase(tokens: list[bytes]) -> bytes:
    """Join the words of a display-name, quotes removed, white space collapsed."""
    text = b"".join(_unquote(t) if t.startswith(b'"') and len(t) > 1 else t for t in tokens)
    return b" ".join(text.split())


def _address(tokens: list[bytes], name: bytes | None) -> Mailbox | None:
    """Split tokens into route, local part and domain; None when there is no address at all."""
    route: bytes | None = None
    words = [token for token in tokens if token != b" "]
    if not words:
        return Mailbox(name, None, b"", b"") if name else None
    if words[0] == b"@" and b":" in words:
        colon = words.index(b":")
        route = b"".join(words[:colon])
        words = words[colon + 1 :]
    if b"@" in words:
        at = len(words) - 1 - words[::-1].index(b"@")
        local = b"".join(_local(word) for word in words[:at])
        domain = b"".join(words[at + 1 :])
        return Mailbox(_tidy(name), route, local, domain)
    # RFC 7103 §7.1.7: a name alone
    return Mailbox(_tidy(name), route, _phrase(tokens), b"")


def _local(word: bytes) -> bytes:
    """Keep the quotes of a local part only where it needs them (RFC 9051 §7.5.2 shows none)."""
    return _unquote(word) if word.startswith(b'"') and len(word) > 1 else word


def _tidy(name: bytes | None) -> bytes | None:
    return (b" ".join(name.split()) or None) if name else None
