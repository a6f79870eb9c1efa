"""Charsets: from the names that mail uses to the codecs of the standard library."""

import codecs
import encodings.aliases
import re

_SIMPLE = re.compile(r"[^a-z0-9]")

# Codecs that are no charset, or cost more than linear time, are not to be reached by a name that a
# peer chose. `codecs.lookup` is never called with such a name: it would also remember every one.
_NOT_CHARSETS = {
    "base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec",
    "idna", "punycode", "mbcs", "oem", "undefined", "charmap", "palmos",
    "unicode_escape", "raw_unicode_escape", "utf_8_sig",
}  # fmt: skip

# What senders mean, by the practice of browsers (WHATWG Encoding §4.2): supersets of what they say.
_SUPERSETS = {
    "latin_1": "cp1252", "iso8859_9": "cp1254", "iso8859_11": "cp874", "tis_620": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949",
    "ksc5601": "cp949", "big5": "big5hkscs",
}  # fmt: skip

_MORE_NAMES = {
    "utf8mb4": "utf_8", "unicode11utf8": "utf_8", "xutf8": "utf_8", "cputf8": "utf_8",
    "unicode11utf7": "utf_7", "xsjis": "cp932", "windows31j": "cp932", "xeucjp": "euc_jp",
    "xgbk": "gb18030", "xbig5": "big5hkscs", "ksc56011987": "cp949", "windows949": "cp949",
    "windows874": "cp874", "iso88598i": "iso8859_8", "iso88598e": "iso8859_8",
    "xcp1252": "cp1252", "windows1252http": "cp1252", "ansi": "cp1252", "xansi": "cp1252",
    "xwindows1252": "cp1252", "xmacroman": "mac_roman", "macintosh": "mac_roman",
    "xmaccyrillic": "mac_cyrillic", "dos874": "cp874", "koi8": "koi8_r", "xiso88591": "cp1252",
}  # fmt: skip


def _simple(name: str) -> str:
    return _SIMPLE.sub("", name.lower())


def _table() -> dict[str, str]:
    """Map every spelling, without its punctuation, to a codec that surely exists."""
    table: dict[str, str] = {}
    for alias, codec in encodings.aliases.aliases.items():
        if codec in _NOT_CHARSETS:
            continue
        try:
            codecs.lookup(codec)
        except LookupError:  # a codec of another operating system
            continue
        table[_simple(alias)] = table[_simple(codec)] = _SUPERSETS.get(codec, codec)
    for codec in ("koi8_r", "koi8_u", "cp874", "cp720", "cp737", "cp856", "cp1006"):
        table[_simple(codec)] = _SUPERSETS.get(codec, codec)
    table.update(_MORE_NAMES)
    return table


_CODECS = _table()
_USUAL = {  # the spellings of nearly all mail, found without a look at the punctuation
    name: _CODECS[_simple(name)]
    for name in ("utf-8", "UTF-8", "us-ascii", "US-ASCII", "iso-8859-1", "ISO-8859-1")
}
_ASCII = _CODECS["usascii"]
_WIDE = ("utf_7", "utf_16", "utf_16_be", "utf_16_le", "utf_32", "utf_32_be", "utf_32_le")


def codec_of(charset: str) -> str | None:
    """Return the codec of a charset name, None when it is not known."""
    return _USUAL.get(charset) or _CODECS.get(_simple(charset[:64]))


def decode_header_text(octets: bytes) -> str:
    """Decode raw octets of a header: UTF-8 (RFC 6532), else windows-1252 (RFC 7103 §7.7)."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("cp1252", "replace")


def decode_charset(octets: bytes, charset: str | None) -> tuple[str, bool]:
    """Decode text; the flag tells that octets or the charset's name were wrong.

    Without a charset, with US-ASCII and with an unknown one: UTF-8, else windows-1252.
    """
    codec = codec_of(charset) if charset else _ASCII
    if codec is None or codec == _ASCII:
        if octets.isascii():
            return octets.decode("ascii"), codec is None
        return decode_header_text(octets), True
    try:
        text, problem = octets.decode(codec), False
    except (UnicodeError, ValueError):
        text, problem = octets.decode(codec, "replace"), True
    if codec in _WIDE:
        # half a surrogate pair is no character: neither JSON nor PostgreSQL take it
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text, problem
