"""Readable text: out of HTML, and the preview of a message."""

import html
import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser

PREVIEW_LIMIT = 256  # characters, RFC 8621 §4.1.4, RFC 8970 §3.3
# HTML is parsed in slices: the parser's time grows with the square of the nesting, so what it sees
# at once is bounded (8 KiB of nested elements cost about 4 ms, ordinary text 0.03 ms).
_SLICE = 8 * 1024
_FIRST_SLICE = 4 * 1024  # nearly always enough for a preview
_PREVIEW_SOURCE = 128 * 1024

_UNSEEN = ("script", "style", "head", "title", "noscript", "template")
_UNSEEN_START = re.compile(r"<(script|style|head|title|noscript|template)\b|<(!--)", re.IGNORECASE)
# Tags that begin and end within words; those of links and spans mostly have words of their own.
_FORMATTING = re.compile(
    r"</?(?:b|big|em|font|i|mark|s|small|strike|strong|sub|sup|tt|u|wbr)"
    r"""(?=[\s/>])(?:[^<>"']++|"[^"<]*+"|'[^'<]*+'){0,40}>""",
    re.IGNORECASE,
)
_BLOCKQUOTE = re.compile(r"<(/?)blockquote\b", re.IGNORECASE)
_SPACES = re.compile(r"[\s\u00a0\u034f\u200b-\u200f\u2028-\u202f\u2060\ufeff\u00ad\x00-\x1f\x7f]+")
_ATTRIBUTION = re.compile(
    r"(?:on|am|le|el|op|il)\b.{5,200}:|.{3,200}\b(?:wrote|writes|schrieb|écrit)\s?:", re.IGNORECASE
)


def html_text(markup: str) -> str:
    """Return the text of HTML that a reader sees."""
    return " ".join(_html_pieces(visible(markup)))


def visible(markup: str) -> str:
    """Drop comments and the elements that are never shown; one pass over the markup."""
    kept, position = [], 0
    lowered = ""
    absent: set[str] = set()  # ends that do not come any more
    while found := _UNSEEN_START.search(markup, position):
        kept.append(markup[position : found.start()])
        lowered = lowered or markup.lower()
        close = "-->" if found[2] else f"</{found[1].lower()}"
        whole = len(close) if found[2] else 0
        end = lowered.find(close, found.end()) if close not in absent else -1
        if end < 0:
            absent.add(close)
            # not closed: a browser would drop the rest of a comment or script, and keep a head
            position = len(markup) if found[2] or found[1].lower() in _UNSEEN[:2] else found.end()
            continue
        # the end tag is left over, which is nothing to see, and keeps words apart
        position = end + whole
    kept.append(markup[position:])
    return " ".join(kept) if len(kept) > 1 else markup


def _slices(markup: str, size: int) -> Iterator[str]:
    """Cut where a tag starts, so that no tag is torn."""
    start = 0
    while start < len(markup):
        stop = start + size
        size = _SLICE
        if stop < len(markup):
            tag = markup.rfind("<", start + 1, stop)
            stop = tag if tag > start else stop
        yield markup[start:stop]
        start = stop


def _html_pieces(markup: str, first: int = _SLICE) -> Iterator[str]:
    for piece in _slices(markup, first):
        yield slice_text(piece)


def slice_text(markup: str) -> str:
    """Return the text of a small piece of HTML, words of neighbouring elements apart."""
    if "<" not in markup:
        return html.unescape(markup) if "&" in markup else markup
    body = LexborHTMLParser(_FORMATTING.sub("", markup)).body
    return body.text(separator=" ") if body is not None else ""


def collapse(text: str) -> str:
    """Make one line: white space, invisible and control characters become single spaces."""
    text = " ".join(text.split())
    if text.isprintable() and "\u034f" not in text:  # the one invisible that counts as printable
        return text
    return _SPACES.sub(" ", text).strip()


def plain_preview(text: str) -> str:
    """Return the start of a plain text, without quoted lines and what introduces them."""
    kept: list[str] = []
    length = 0
    for line in text[:_PREVIEW_SOURCE].splitlines():
        stripped = line.strip()
        if not stripped:
            continue
        if stripped.startswith((">", "|")):
            if kept and _ATTRIBUTION.match(kept[-1]):
                length -= len(kept.pop()) + 1
            continue
        if line.rstrip("\r\n") in ("-- ", "--") and kept:  # the signature, RFC 3676 §4.3
            break
        kept.append(stripped)
        length += len(stripped) + 1
        if length > 2 * PREVIEW_LIMIT:
            break
    return (
        collapse(" ".join(kept))[:PREVIEW_LIMIT].rstrip()
        or collapse(text[: 4 * PREVIEW_LIMIT])[:PREVIEW_LIMIT].rstrip()
    )


def html_preview(markup: str) -> str:
    """Return the start of what a reader of HTML sees, without quoted messages."""
    shown = visible(markup[:_PREVIEW_SOURCE])
    unquoted = _without_quotes(shown)
    return _start_of(unquoted) or _start_of(shown)


def _start_of(markup: str) -> str:
    text = ""
    for piece in _html_pieces(markup, _FIRST_SLICE):
        text = collapse(text + " " + piece)
        if len(text) >= PREVIEW_LIMIT:
            break
    return text[:PREVIEW_LIMIT].rstrip()


def _without_quotes(markup: str) -> str:
    """Drop blockquote elements, which hold what a reply answers."""
    kept, position, depth = [], 0, 0
    for tag in _BLOCKQUOTE.finditer(markup):
        if tag[1]:
            depth = max(depth - 1, 0)
            if depth == 0:
                position = tag.start()
        else:
            if depth == 0:
                kept.append(markup[position : tag.start()])
            depth += 1
    if depth == 0:
        kept.append(markup[position:])
    return "".join(kept)
