"""Encoded words: text other than ASCII in header fields (RFC 2047)."""

import binascii
import re
import unicodedata

from mailserver.mime.charsets import decode_charset, decode_header_text

# encoded-word = "=?" charset ["*" language] "?" encoding "?" encoded-text "?=" (RFC 2047 §2,
# RFC 2231 §5). It stands between white space, quotes or parentheses, never inside a word.
# QUIRK(mailers): words that touch each other are taken as neighbours.
_WORD = re.compile(
    rb"(?:(?<=[\s(\"])|(?<=\?=)|\A)"
    rb"=\?([!#-)+\-/-9A-~]++)(?:\*[!-)+->@-~]*+)?\?([BbQq])\?([!->@-~]*+)\?="
    rb"(?=[\s)\"]|=\?|\Z)"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_Q_ESCAPE = re.compile(rb"=([0-9A-Fa-f]{2})")


def _q(text: bytes) -> bytes:
    """Decode the "Q" encoding (RFC 2047 §4.2); a bad escape stays as it is."""
    return _Q_ESCAPE.sub(lambda code: bytes((int(code[1], 16),)), text.replace(b"_", b" "))


def _b(text: bytes) -> bytes:
    """Decode the "B" encoding (RFC 2047 §4.1); missing padding is no error."""
    data = text.rstrip(b"=")
    data = data[:-1] if len(data) % 4 == 1 else data
    try:
        return binascii.a2b_base64(data + b"=" * (-len(data) % 4))
    except binascii.Error:  # foreign octets upset the count; keep what can be read
        return b""


def decode(value: bytes) -> str:
    """Return unfolded header text with its encoded words decoded, in NFC (RFC 8621 §4.1.2.2).

    Neighbouring words of one charset are joined before the charset is decoded: mailers cut them
    in the middle of a character. Octets other than ASCII are UTF-8, else windows-1252.
    """
    if b"=?" not in value:
        if value.isascii():
            return (value.replace(b"\0", b"") if b"\0" in value else value).decode("ascii")
        return unicodedata.normalize("NFC", decode_header_text(value).replace("\0", ""))
    pieces: list[str] = []
    charset, pending, position = b"", b"", 0
    for word in _WORD.finditer(value):
        between = value[position : word.start()]
        joined = bool(charset) and not between.strip()
        if not (joined and charset.lower() == word[1].lower()):
            pieces.append(_clean(pending, charset))
            pending = b""
            if not joined:
                pieces.append(decode_header_text(between))
        charset = word[1]
        pending += _b(word[3]) if word[2] in b"Bb" else _q(word[3])
        position = word.end()
    pieces.append(_clean(pending, charset))
    pieces.append(decode_header_text(value[position:]))
    text = "".join(pieces).replace("\0", "")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _clean(octets: bytes, charset: bytes) -> str:
    if not octets:
        return ""
    text, _ = decode_charset(octets, charset.decode("ascii"))
    return _CONTROL.sub("", text)
