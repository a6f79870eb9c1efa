"""Tag lists: `v=1; a=rsa-sha256; …` (RFC 6376 §3.2), of signatures, keys and DMARC records."""

import base64
import binascii
import re

from mailserver.errors import MailError

MAX_LENGTH = 16 * 1024  # octets of a list that are looked at
MAX_SHOWN = 255  # characters
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_SPACE = re.compile(r"[ \t\r\n]+")
_SURROUNDING = " \t\r\n"


class Malformed(MailError):
    """A signature, a key or a policy is not what the RFC says; the text is for people."""


def parse_tags(value: bytes | str) -> dict[str, str]:
    """Return the tags of a list, without spaces around their values; Malformed."""
    if len(value) > MAX_LENGTH:
        raise Malformed("too long")
    text = value if isinstance(value, str) else value.decode("utf-8", "replace")
    tags: dict[str, str] = {}
    for item in text.strip(_SURROUNDING).removesuffix(";").split(";"):
        name, equals, content = item.partition("=")
        name = name.strip(_SURROUNDING)
        if not equals or not _NAME.match(name):
            raise Malformed("not a list of tags")
        if name in tags:
            raise Malformed(f"two {name}=")
        tags[name] = content.strip(_SURROUNDING)
    return tags


def shown(value: str) -> str:
    """Return what a peer said as something to show: printable, and not too long."""
    return "".join(each if " " <= each <= "~" else "?" for each in value[:MAX_SHOWN])


def unspaced(value: str) -> str:
    """Return a value without any white space in it."""
    return _SPACE.sub("", value)


def decoded(tags: dict[str, str], name: str) -> bytes:
    """Return a base64 value as octets; Malformed."""
    try:
        return base64.b64decode(unspaced(tags[name]), validate=True)
    except KeyError:
        raise Malformed(f"no {name}=") from None
    except (binascii.Error, ValueError):
        raise Malformed(f"{name}= is not base64") from None


def number(tags: dict[str, str], name: str) -> int | None:
    """Return a number of at most 12 digits, None without the tag; Malformed (RFC 6376 §3.5)."""
    value = tags.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit()) or len(value) > 76:
        raise Malformed(f"{name}= is not a number")
    return int(value)
