"""The hosts that a message wants its reader to visit."""

import re

from mailserver import mime

TEXT_LIMIT = 256 * 1024  # octets of text parts that are looked through
HOST_LIMIT = 20  # hosts that are asked about; the first ones, as a reader would see them
_HOST = re.compile(r"\bhttps?://(?:[^\s/@<>\"']{0,256}@)?([A-Za-z0-9\u0080-\uffff._-]{3,253})")
_NAME = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])\Z"
)


def hosts(raw: bytes) -> list[str]:
    """Return the host names of links in text and HTML parts, in lower-case A-labels."""
    found: dict[str, None] = {}
    left = TEXT_LIMIT
    for part in mime.parse(raw).parts:
        if part.type != "text" or left <= 0:
            continue
        end = min(part.body_end, part.body_start + left)
        text = mime.decode_text(raw[part.body_start : end], part.charset, part.encoding)[0]
        left -= end - part.body_start
        for host in _HOST.findall(text):
            name = _normal(host)
            if name:
                found.setdefault(name)
            if len(found) >= HOST_LIMIT:
                return list(found)
    return list(found)


def _normal(host: str) -> str:
    """Return a name as it is asked for in DNS; empty when it is none."""
    name = host.strip(".").lower()
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            return ""
    return name if _NAME.match(name) else ""


def registered(host: str) -> str:
    """Return the domain that somebody registered, as nearly as that can be told from its letters.

    Lists of domains ask for it; they do not list what registries own, so one label too few is only
    a question in vain.
    """
    labels = host.split(".")
    two_level = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return ".".join(labels[-3 if two_level else -2 :])
