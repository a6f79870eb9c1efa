"""The base subject, by which messages are sorted and threaded (RFC 5256 §2.1)."""

import re

SUBJECT_LIMIT = 1000  # characters that are looked at; the result is an index key

_BLOB = r"\[[^\[\]]*+\][ ]*+"
# subj-leader = (*subj-blob subj-refwd) / WSP
# subj-refwd = ("re" / ("fw" ["d"])) *WSP [subj-blob] ":"
_LEADER = re.compile(
    r"(?:(?:" + _BLOB + r")*(?:re|fwd?)[ ]*+(?:" + _BLOB + r")?:|[ ])", re.IGNORECASE
)
_LEADING_BLOB = re.compile(_BLOB)
_TRAILER = re.compile(r"(?:\(fwd\)|[ ])\Z", re.IGNORECASE)
_FORWARD = re.compile(r"\[fwd:", re.IGNORECASE)
_WHITE = re.compile(r"[ \t\r\n]+")


def base(subject: str) -> str:
    """Return the base subject of a decoded subject."""
    text = _WHITE.sub(" ", subject[:SUBJECT_LIMIT])
    while True:
        text = _without_trailers(text)
        text = _without_leaders(text)
        if not (_FORWARD.match(text) and text.endswith("]")):
            return text
        text = text[5:-1]


def is_reply(subject: str) -> bool:
    """Whether the base subject lacks a mark of a reply or forward (RFC 5256 §3)."""
    text = _WHITE.sub(" ", subject[:SUBJECT_LIMIT])
    while found := _TRAILER.search(text, max(0, len(text) - 5)):
        if found[0] != " ":
            return True
        text = text[: found.start()]
    while True:
        leader = _LEADER.match(text)
        if leader is not None and leader[0] != " ":
            return True
        blob = None if leader is not None else _LEADING_BLOB.match(text)
        if leader is None and (blob is None or blob.end() == len(text)):
            return bool(_FORWARD.match(text) and text.endswith("]"))
        found = leader or blob
        assert found is not None
        text = text[found.end() :]


def _without_trailers(text: str) -> str:
    while found := _TRAILER.search(text, max(0, len(text) - 5)):
        text = text[: found.start()]
    return text


def _without_leaders(text: str) -> str:
    """Steps 3 to 5: prefixes, and blobs as long as something is left."""
    while True:
        leader = _LEADER.match(text)
        if leader is not None:
            text = text[leader.end() :]
            continue
        blob = _LEADING_BLOB.match(text)
        if blob is None or blob.end() == len(text):
            return text
        text = text[blob.end() :]
