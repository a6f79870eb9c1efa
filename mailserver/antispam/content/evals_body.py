"""Tests that are functions: of markup, of the structure, of the text."""

import re
import string
from collections.abc import Callable, Sequence

from mailserver.antispam.content.arguments import Eval, between, numbers, organisation
from mailserver.antispam.content.rulefile import RuleSet
from mailserver.antispam.content.views import Views

_IMAGE_TAG = re.compile(r"<img\b([^<>]{0,2000}+)>", re.IGNORECASE)
_SIZE = re.compile(r"\b(width|height)\s*=\s*[\"']?(\d{1,4})\b(?!%)", re.IGNORECASE)
# Tags here end at the next one, too: else each of many that have no end is read to the limit.
_TEXT_LINK = re.compile(
    r"<a\b[^<>]{0,1000}?\bhref\s*+=\s*+[\"']?+https?://([^/\s\"'<>:]{1,255}+)[^<>]{0,1000}+>"
    r"([^<]{1,300}+)</a",
    re.IGNORECASE,
)
_IP_HOST = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}\Z")
_SHOWN_HOST = re.compile(r"https://([^/\s:]{1,255})", re.IGNORECASE)
_UNICODE_ESCAPE = re.compile(r"&#(?:x[0-9a-f]{2,6}|\d{2,7});", re.IGNORECASE)
_CAPITALS = string.ascii_uppercase.encode()
_LONG_WORD = re.compile(rb"[^\s]{77}")
_LONG_LINE = re.compile(rb"[^\r\n]{78}")
_BAD_ISO = re.compile(r"iso-?\d{3,4}-?\d{2}\b", re.IGNORECASE)
_PROGRAM = re.compile(
    r"\.(?:exe|scr|pif|bat|cmd|com|vbs?|jse?|wsf?|hta|lnk|iso|img|jar|cpl|ps1)\s*\Z", re.IGNORECASE
)


# HTML --------------------------------------------------------------------------------------------


def html_tag_exists(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether a tag is used."""
    return bool(arguments) and arguments[0].lower() in views.html.tags


def html_tag_balance(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether a tag is opened more often than closed, by an expression like `> 0`."""
    if len(arguments) < 2 or not views.html.source:
        return False
    tag = arguments[0].lower()
    closed = len(re.findall(rf"</{re.escape(tag)}\s*>", views.html.source, re.IGNORECASE))
    balance = views.html.tags.get(tag, 0) - closed
    compared = re.match(r"\s*([<>=!]{1,2})\s*(-?\d+)\s*\Z", arguments[1])
    if compared is None or tag not in views.html.tags:
        return False
    number = int(compared[2])
    return {
        ">": balance > number, "<": balance < number, "==": balance == number,
        "!=": balance != number, ">=": balance >= number, "<=": balance <= number,
    }.get(compared[1], False)  # fmt: skip


def _html_value(views: Views, name: str) -> float | None:
    facts = views.html
    if not facts.source:
        return None
    if name == "length":
        return float(facts.shown_length)
    if name == "ratio":
        return 1 - facts.shown_length / max(len(facts.source), 1)
    if name == "image_area":
        return float(sum(_areas(facts.source)))
    return None


def _areas(source: str) -> list[int]:
    areas = []
    for attributes in _IMAGE_TAG.findall(source)[:200]:
        sizes = {name.lower(): int(value) for name, value in _SIZE.findall(attributes)}
        areas.append(min(sizes.get("width", 200), 2000) * min(sizes.get("height", 200), 2000))
    return areas


def html_range(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether a figure of the markup is within bounds."""
    value = _html_value(views, arguments[0]) if arguments else None
    least, most = numbers(arguments[1:], 2)
    return value is not None and between(value, least, most)


def html_image_only(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether there are pictures, and text of a length within bounds."""
    least, most = numbers(arguments, 2)
    length = views.html.shown_length
    return (
        "img" in views.html.tags
        and least is not None
        and least < length
        and between(length, None, most)
    )


def html_image_ratio(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether text for each pixel of pictures is within bounds."""
    area = _html_value(views, "image_area")
    least, most = numbers(arguments, 2)
    if not area or least is None or most is None:
        return False
    return least < views.html.shown_length / area <= most


def html_text_match(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether the title matches; other texts of the markup are not kept."""
    if len(arguments) < 2 or arguments[0] != "title" or len(arguments[1]) > 200:
        return False
    wanted = arguments[1].replace("(?:", "").strip("^$")
    return wanted.isalnum() and wanted.lower() in views.html.title.lower()


def html_test(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether something is in the markup."""
    found = _HTML_TESTS.get(arguments[0] if arguments else "")
    return found is not None and found.search(views.html.source) is not None


_HTML_TESTS = {
    "embeds": re.compile(r"<(?:embed|object|applet)\b", re.IGNORECASE),
    "forms": re.compile(r"<form\b", re.IGNORECASE),
    "form_action_mailto": re.compile(
        r"<form\b[^<>]{0,500}action\s*=\s*[\"']?mailto:", re.IGNORECASE
    ),
    "html_event": re.compile(r"<[^<>]{1,500}\son(?:load|click|mouseover|error)\s*=", re.IGNORECASE),
    "jsevent": re.compile(r"<[^<>]{1,500}\son(?:load|mouseover)\s*=", re.IGNORECASE),
    "big_font": re.compile(r"<font\b[^<>]{0,300}size\s*=\s*[\"']?(?:\+[2-9]|[5-9])", re.IGNORECASE),
    "font_low_contrast": re.compile(r"color\s*[:=]\s*[\"']?#?f[ef]f[ef]f[ef]\b", re.IGNORECASE),
    "font_face_bad": re.compile(
        r"<font\b[^<>]{0,300}face\s*=\s*[\"']?[^\"'>]*[^\w\s,.\-\"'][^\"'>]*", re.IGNORECASE
    ),
    "web_bugs": re.compile(
        r"<img\b(?=[^<>]{0,500}width\s*=\s*[\"']?[01]\b)[^<>]{0,500}height\s*=\s*[\"']?[01]\b",
        re.IGNORECASE,
    ),
}


def html_title_subject_ratio(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether the title is longer than the subject by a factor."""
    (ratio,) = numbers(arguments, 1)
    return bool(ratio and views.html.title and views.subject) and (
        len(views.html.title) > (ratio or 0) * len(views.subject)
    )


def check_iframe_src(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether a frame loads something."""
    return re.search(r"<iframe\b[^>]{0,1000}\bsrc\s*=", views.html.source, re.I) is not None


def check_https_ip_mismatch(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether a link shows https and a name, and leads to an address."""
    return any(
        _IP_HOST.match(host)
        and (shown := _SHOWN_HOST.search(label))
        and not _IP_HOST.match(shown[1])
        for host, label in _TEXT_LINK.findall(views.html.source)[:200]
    )


def check_uri_truncated(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether a link is longer than anybody needs."""
    return any(len(uri) > 1024 for uri in views.uris)


# MIME --------------------------------------------------------------------------------------------


def check_for_mime_html(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether there is HTML."""
    return any(part.subtype == "html" for part in views.texts)


def check_for_mime_html_only(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether there is HTML and no plain text."""
    kinds = {part.subtype for part in views.texts}
    return kinds == {"html"}


def check_for_mime(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether the structure has an oddity of that name."""
    test = _MIME_TESTS.get(arguments[0] if arguments else "")
    return test is not None and test(views)


def _bad_base64(views: Views) -> bool:
    return any(
        part.encoding == "base64"
        and part.type == "text"
        and _LONG_WORD.search(views.raw, part.body_start, part.body_end) is not None
        for part in views.parts
    )  # fmt: skip


_MIME_TESTS: dict[str, Callable[[Views], bool]] = {
    "mime_base64_blanks": lambda views: any(
        part.encoding == "base64"
        and b"\n\n" in views.raw[part.body_start : part.body_end].replace(b"\r", b"").strip()
        for part in views.parts
    ),
    "mime_base64_encoded_text": lambda views: any(
        part.encoding == "base64" and part.type == "text" and part.disposition != "attachment"
        and (part.charset or "us-ascii").lower() in ("us-ascii", "iso-8859-1", "windows-1252")
        for part in views.parts
    ),
    "mime_bad_iso_charset": lambda views: any(
        _BAD_ISO.match(part.charset or "") is not None for part in views.parts
    ),
    "mime_qp_long_line": lambda views: any(
        part.encoding == "quoted-printable"
        and _LONG_LINE.search(views.raw, part.body_start, part.body_end) is not None
        for part in views.parts
    ),
    "mime_suspect_name": _bad_base64,
    "mime_ascii0": lambda views: b"\0" in views.raw[views.header.end :],
    "mime_qp_count": lambda views: any(part.encoding == "quoted-printable" for part in views.parts),
}  # fmt: skip


def check_mime_multipart_ratio(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether plain text is short beside HTML, as a ratio within bounds."""
    ratio = _alternative_ratio(views)
    least, most = numbers(arguments, 2)
    return ratio is not None and between(ratio, least, most)


def _alternative_ratio(views: Views) -> float | None:
    plain = sum(len(part.shown) for part in views.texts if part.subtype == "plain")
    marked = sum(len(part.shown) for part in views.texts if part.subtype == "html")
    return plain / marked if plain and marked else None


def multipart_alternative_difference(
    views: Views, arguments: Sequence[str], rules: RuleSet
) -> bool:
    """Whether the words of the alternatives differ by a percentage within bounds."""
    if not any(
        part.type == "multipart" and part.subtype == "alternative" for part in views.message.parts
    ):
        return False
    plain = {
        word
        for part in views.texts
        if part.subtype == "plain"
        for word in part.shown.split()[:3000]
    }
    marked = {
        word for part in views.texts if part.subtype == "html" for word in part.shown.split()[:3000]
    }
    if not marked or not plain:
        return False
    difference = 100 * len(plain - marked) / len(plain)
    least, most = numbers(arguments, 2)
    return between(difference, least, most)


def check_ma_non_text(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether alternatives hold something that is neither text nor a group."""
    parts = views.message.parts
    return any(
        part.type not in ("text", "multipart", "application", "image")
        for owner in parts
        if owner.type == "multipart" and owner.subtype == "alternative"
        for part in owner.children
    )


def check_base64_length(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether the longest line of base64 is within bounds."""
    longest = 0
    for part in views.parts:
        if part.encoding == "base64":
            lines = views.raw[part.body_start : part.body_end].split(b"\n")
            longest = max(longest, *(len(line.strip()) for line in lines[:2000]))
    least, most = numbers(arguments, 2)
    return longest > 0 and between(longest, least, most)


# Text --------------------------------------------------------------------------------------------


def check_for_uppercase(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether the percentage of capitals in a text of some length is within bounds."""
    shown = "".join(part.shown for part in views.texts)[:20000]
    if shown.isascii():  # most texts; thirty times as fast
        octets = shown.encode()
        capitals = len(octets) - len(octets.translate(None, _CAPITALS))
        letters = capitals + len(octets) - len(octets.translate(None, _CAPITALS.lower()))
    else:
        capitals, letters = sum(map(str.isupper, shown)), sum(map(str.isalpha, shown))
    if letters < 200:
        return False
    percentage = 100 * capitals / letters
    least, most = numbers(arguments, 2)
    return least is not None and least < percentage and between(percentage, None, most)


def check_blank_line_ratio(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether the percentage of blank lines is within bounds, in a text of enough lines."""
    lines = "\n".join(part.source for part in views.texts).splitlines()
    least, most, count = numbers(arguments, 3)
    if len(lines) < (count or 1):
        return False
    return between(100 * sum(not line.strip() for line in lines) / len(lines), least, most)


def tvd_vertical_words(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether lines of a single letter make up a percentage of the text."""
    lines = [
        line.strip() for part in views.texts for line in part.shown.splitlines() if line.strip()
    ]
    least, most = numbers(arguments, 2)
    if len(lines) < 5:
        return False
    return between(100 * sum(len(line) == 1 for line in lines) / len(lines), least, most)


def link_shows_other_host(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether a link shows one host and leads to another."""
    for host, label in _TEXT_LINK.findall(views.html.source)[:100]:
        shown = re.match(
            r"\s*(?:https?://)?((?:[a-z0-9-]{1,63}\.){1,5}[a-z]{2,15})(?:[/:?#]|\s*\Z)", label, re.I
        )
        if shown is not None and organisation(shown[1].lower()) != organisation(host.lower()):
            return True
    return False


def many_escapes(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether plain letters of the markup are written as numbers, which hides them from filters."""
    return len(_UNICODE_ESCAPE.findall(views.html.source[:50000])) > 200


def short_of_text(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether the whole text has fewer characters than the argument."""
    (most,) = numbers(arguments, 1)
    return sum(len(part.shown.strip()) for part in views.texts) < (most or 0)


def dangerous_attachment(views: Views, arguments: Sequence[str], rules: RuleSet) -> bool:
    """Whether a part has the name of a program."""
    return any(_PROGRAM.search(part.name or "") for part in views.parts)


BODY_EVALS: dict[str, Eval] = {
    function.__name__: function
    for function in (
        html_tag_exists, html_tag_balance, html_range, html_image_only, html_image_ratio,
        html_text_match, html_test, html_title_subject_ratio, check_iframe_src,
        check_https_ip_mismatch, check_uri_truncated, check_for_mime_html,
        check_for_mime_html_only, check_for_mime, check_mime_multipart_ratio,
        multipart_alternative_difference, check_ma_non_text, check_base64_length,
        check_for_uppercase, check_blank_line_ratio, tvd_vertical_words, link_shows_other_host,
        many_escapes, short_of_text, dangerous_attachment,
    )
}  # fmt: skip
