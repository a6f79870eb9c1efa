"""A message as its signatures see it: each form of it is made once."""

import hashlib
import re
from collections.abc import Sequence

from mailserver.mime.dkim import relaxed_body, relaxed_field, simple_body
from mailserver.mime.headers import HEADER_LIMIT, Field, HeaderBlock

_BODIES = {"simple": simple_body, "relaxed": relaxed_body}
_SIGNATURE = re.compile(rb"((?:\A|;)[ \t\r\n]*+b[ \t\r\n]*+=)[^;]*+")
_LINE_END = re.compile(rb"\r?\n")


class Content:
    """Header fields and body of a message, for any number of signatures."""

    def __init__(self, raw: bytes) -> None:
        if b"\r\n" not in raw:
            raw = _LINE_END.sub(b"\r\n", raw)
        block = HeaderBlock(raw)
        self.fields: tuple[Field, ...] = tuple(block)
        self.is_whole = block.end - block.start <= HEADER_LIMIT  # every field was read
        self.size = len(raw)
        self._raw = raw
        self._body_start = block.body_start
        self._bodies: dict[str, bytes] = {}
        self._hashes: dict[tuple[str, int | None], bytes] = {}
        self._relaxed: dict[int, bytes] = {}
        self._places: dict[str, list[int]] = {}
        for index, field in enumerate(self.fields):
            self._places.setdefault(field.name.lower(), []).append(index)

    def named(self, name: str) -> Sequence[Field]:
        """Return the fields of a lower-case name, from the top."""
        return [self.fields[index] for index in self._places.get(name, ())]

    def body_length(self, form: str) -> int:
        """Return the octets of the canonical body."""
        return len(self._body(form))

    def body_hash(self, form: str, length: int | None) -> bytes:
        """Return the SHA-256 of the canonical body, or of its first octets."""
        key = form, length
        if key not in self._hashes:
            octets = memoryview(self._body(form))
            self._hashes[key] = hashlib.sha256(octets[:length]).digest()
        return self._hashes[key]

    def _body(self, form: str) -> bytes:
        if form not in self._bodies:
            self._bodies[form] = _BODIES[form](self._raw[self._body_start :])
        return self._bodies[form]

    def signed_octets(self, form: str, names: Sequence[str], signature: Field) -> bytes:
        """Return what a signature field signs of the header, itself last (RFC 6376 §5.4.2, §3.7).

        Of several fields of a name the lowest is taken first; one that is not there is nothing.
        """
        used: dict[str, int] = {}
        parts: list[bytes] = []
        for name in names:
            places = self._places.get(name, ())
            taken = used.get(name, 0)
            if taken < len(places):
                used[name] = taken + 1
                parts.append(self._canonical(form, places[-1 - taken]))
        parts.append(self.unsigned(form, signature))
        return b"".join(parts)

    def _canonical(self, form: str, index: int) -> bytes:
        field = self.fields[index]
        if form == "simple":
            return self._raw[field.start : field.end]
        if index not in self._relaxed:
            self._relaxed[index] = relaxed_field(field.name, field.value) + b"\r\n"
        return self._relaxed[index]

    def relaxed(self, field: Field) -> bytes:
        """Return a field in the relaxed form, with its line end."""
        return relaxed_field(field.name, field.value) + b"\r\n"

    def unsigned(self, form: str, signature: Field) -> bytes:
        """Return a signature field without its signature and its line end."""
        value = _SIGNATURE.sub(rb"\1", signature.value, count=1)
        if form == "relaxed":
            return relaxed_field(signature.name, value)
        head = self._raw[signature.start : signature.end].partition(b":")[0]
        return head + b":" + value
