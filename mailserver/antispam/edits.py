"""Changes of a message that an engine asks for, as milters have them; pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_NAME = re.compile(rb"[!-9;-~]+")  # ftext, RFC 5322 §3.6.8
_FIELD = re.compile(rb"[^\r\n]*\r?\n(?:[ \t][^\r\n]*\r?\n)*")


@dataclass(frozen=True, slots=True)
class AddField:
    """A field behind all others, or before that at an index."""

    name: bytes
    value: bytes
    index: int | None = None  # 0: before all others; None: behind them


@dataclass(frozen=True, slots=True)
class ChangeField:
    """Another value for a field; an empty one takes it away."""

    name: bytes
    index: int  # among those of its name, from 1
    value: bytes


@dataclass(frozen=True, slots=True)
class ReplaceBody:
    """Another body."""

    body: bytes


Edit = AddField | ChangeField | ReplaceBody


def apply(raw: bytes, edits: Sequence[Edit]) -> bytes:
    """Return a message with changes, made in their order.

    What would not be a field of RFC 5322 is left out: no engine ends a header by a value of its.
    """
    if not edits:
        return raw
    fields, separator, body = _split(raw)
    for edit in edits:
        if isinstance(edit, ReplaceBody):
            body = edit.body
        elif _NAME.fullmatch(edit.name):
            _change(fields, edit)
    return b"".join(fields) + (separator or b"\r\n") + body


def _change(fields: list[bytes], edit: AddField | ChangeField) -> None:
    written = _field(edit.name, edit.value)
    if isinstance(edit, AddField):
        at = len(fields) if edit.index is None else max(edit.index, 0)
        fields.insert(at, written)
        return
    wanted = edit.name.lower()
    places = [at for at, field in enumerate(fields) if _name(field) == wanted]
    if 1 <= edit.index <= len(places):
        at = places[edit.index - 1]
        fields[at : at + 1] = [written] if edit.value else []
    elif edit.value:
        fields.append(written)


def _split(raw: bytes) -> tuple[list[bytes], bytes, bytes]:
    """Return the fields, the empty line and the body."""
    fields: list[bytes] = []
    at = 0
    while at < len(raw):
        for end in (b"\r\n", b"\n"):
            if raw.startswith(end, at):
                return fields, end, raw[at + len(end) :]
        match = _FIELD.match(raw, at)
        if match is None:  # the last line has no end
            fields.append(raw[at:] + b"\r\n")
            break
        fields.append(match[0])
        at = match.end()
    return fields, b"", b""


def _name(field: bytes) -> bytes:
    return field.partition(b":")[0].rstrip().lower()


def _field(name: bytes, value: bytes) -> bytes:
    """Write a field; every line of its value but the first begins with white space."""
    lines = re.split(rb"\r\n|\r|\n", value.replace(b"\0", b""))
    first, *rest = lines
    folded = [line if line[:1] in (b" ", b"\t") else b"\t" + line for line in rest if line.strip()]
    gap = b"" if first[:1] in (b" ", b"\t") else b" "
    return b"\r\n".join([name + b":" + gap + first, *folded]) + b"\r\n"
