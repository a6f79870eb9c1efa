"""What the classifier sees of a message: a set of hashed features.

Words and neighbouring pairs of words of what a reader sees, of the subject and of names; addresses,
networks and hosts; the form of the message. Each feature has a letter for where it is from, so that
a word in a subject is another feature than the same word in the text. Features are numbers of 32
bits; nothing else of a message is kept by what is learned from it.
"""

import re
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import NamedTuple
from zlib import crc32

from mailserver.antispam.content.views import Views

VERSION = 1  # of the features: what was learned with others means nothing
WORD_LIMIT = 1500  # of the text
JUDGED_WORDS = 500  # of a part of the text; more of them do not make the judgement better
HEADER_WORD_LIMIT = 60  # of one field
LINK_LIMIT = 60
GROUP_LIMIT = 3000

_WORD = re.compile(r"[^\W_][\w'\u2019$%-]{0,39}|[$€£¥][\d.,]{1,12}|[!?$*]{2,10}")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2,}")
_DIGITS = re.compile(r"\d+")
_LETTERS = re.compile("[A-Za-z]+")
_ZONE = re.compile(r"[-+]\d{4}\b|\b[A-Z]{2,4}\b(?=\s*\Z)")
_ATTRIBUTE = re.compile(
    r"\b(bgcolor|color|face|size|align|style|width|height|border|target)\s*[=:]\s*[\"']?"
    r"([^\"'>\s;]{1,24})",
    re.IGNORECASE,
)
_HEADER_WORD = re.compile(rb"[A-Za-z0-9][\w.@/+-]{1,60}")
# Fields that say what another filter thought, that differ for each message, or are read elsewhere.
_PASSED_OVER = frozenset(
    b"subject from to cc bcc date received message-id references in-reply-to status x-status "
    b"x-keywords x-uid x-uidl dkim-signature arc-seal arc-message-signature "
    b"arc-authentication-results authentication-results received-spf".split()
)
_FILTERS = (
    b"x-spam",
    b"x-junk",
    b"x-bogosity",
    b"x-virus",
    b"x-rspamd",
    b"x-pyzor",
    b"x-forefront",
)


class Features(NamedTuple):
    """The features of a message by where they are from, each once."""

    form: "array[int]"  # sizes, structure, markup
    people: "array[int]"  # who wrote it, and to whom
    way: "array[int]"  # through which networks it came
    links: "array[int]"
    fields: "array[int]"  # of the header, those that are not read elsewhere
    subject: "array[int]"
    words: "array[int]"
    pairs: "array[int]"  # of words


def features(views: Views, part_words: int = WORD_LIMIT) -> Features:
    """Return the features of a message, with no more than the first words of each of its parts."""
    words: list[int] = []
    pairs: list[int] = []
    left = WORD_LIMIT
    for part in views.texts:
        alone = _words("w", part.shown, min(left, part_words))
        words += alone
        pairs += _near(alone)
        left -= len(alone)
        if left <= 0:
            break
    groups = (
        _form(views), _people(views), _way(views), _links(views), _fields(views),
        _pairs("s", views.subject, HEADER_WORD_LIMIT), words, pairs,
    )  # fmt: skip
    once = (dict.fromkeys(islice(each, GROUP_LIMIT)) for each in groups)
    return Features(*(array("I", list(each)) for each in once))  # faster of a list


def _hash(text: str) -> int:
    return crc32(text.encode("utf-8", "replace"))


def _words(place: str, text: str, limit: int) -> list[int]:
    """Return the first words of a text, in the form that counts, each word hashed once."""
    end = 8 * limit
    found = _WORD.findall(text, 0, end)
    while len(found) <= limit and end < len(text):  # the last word may be torn, so one more
        end *= 4
        found = _WORD.findall(text, 0, end)
    del found[limit:]
    if text.isascii():
        hashes = {word: _hash(f"{place}:{_form_of(word)}") for word in set(found)}
        return list(map(hashes.__getitem__, found))
    several = {word: [_hash(f"{place}:{form}") for form in _forms(word)] for word in set(found)}
    return [each for word in found for each in several[word]]


def _forms(word: str) -> Sequence[str]:
    """Return what counts of a word, of those that are written without spaces the pairs of signs."""
    if not word.isascii() and _UNSPACED.match(word):
        return [word[at : at + 2] for at in range(min(len(word) - 1, 20))]
    return (_form_of(word),)


def _form_of(word: str) -> str:
    """Return how a word counts: in capitals and small letters alike."""
    if (word.isalpha() and len(word) <= 20) or not word.isascii():
        return word.lower()
    if len(word) > 20:
        return f"long {word[:5].lower()} {len(word) // 10}"
    return _DIGITS.sub(_number, word).lower()


def _number(found: re.Match[str]) -> str:
    """Long numbers are alike by their length."""
    return found[0] if len(found[0]) < 4 else "#" * len(found[0])


def _near(words: Sequence[int]) -> list[int]:
    """Pair each word with each of the two before it (orthogonal sparse bigrams)."""
    ones = [(a * 0x9E3779B1 + b) & 0xFFFFFFFF for a, b in pairwise(words)]
    twos = [(a * 0x85EBCA77 + b + 1) & 0xFFFFFFFF for a, b in zip(words, words[2:], strict=False)]
    mixed = [0] * (2 * len(twos))  # by the later word: the start of a text counts, if not all
    mixed[::2], mixed[1::2] = ones[1:], twos
    return ones[:1] + mixed


def _pairs(place: str, text: str, limit: int) -> list[int]:
    alone = _words(place, text, limit)
    return alone + _near(alone)


def _form(views: Views) -> Iterator[int]:
    size = len(views.inquiry.raw).bit_length()
    yield _hash(f"size:{size}")
    shown = sum(len(part.shown) for part in views.texts)
    yield _hash(f"shown:{shown.bit_length()}")
    yield _hash(f"links:{min(len(views.uris), 255).bit_length()}")
    for part in views.message.parts[:40]:
        yield _hash(f"type:{part.type}/{part.subtype}:{part.encoding[:20]}")
        yield _hash(f"charset:{(part.charset or '')[:30].lower()}")
        if part.name:
            yield _hash(f"name:{part.name.rpartition('.')[2][:10].lower()}")
    facts = views.html
    if facts.source:
        ratio = facts.shown_length * 10 // max(len(facts.source), 1)
        yield _hash(f"markup:{ratio}")
        for tag, count in list(facts.tags.items())[:80]:
            yield _hash(f"tag:{tag}")
            yield _hash(f"tag:{tag}:{count.bit_length()}")
        for name, value in _ATTRIBUTE.findall(facts.source[:30_000])[:400]:
            yield _hash(f"a:{name.lower()}={value.lower()}")
    subject = views.subject
    if subject:
        yield _hash(f"capitals:{sum(map(str.isupper, subject)) * 10 // len(subject)}")


def _people(views: Views) -> Iterator[int]:
    for field, letter in (("From", "f"), ("Reply-To", "r"), ("Sender", "e")):
        for label, address in views.addresses_of(field)[:3]:
            domain = address.rpartition("@")[2]
            yield _hash(f"{letter}:{address[:200]}")
            yield _hash(f"{letter}d:{domain[:200]}")
            yield _hash(f"{letter}t:{domain.rpartition('.')[2][:20]}")
            if label:
                yield from _pairs(f"{letter}n", label, 10)
            else:
                yield _hash(f"{letter}:no name")
    sender = views.inquiry.sender
    yield _hash(f"envelope:{sender.domain if sender is not None else ''}")
    named = views.addresses_of("To") + views.addresses_of("Cc")
    yield _hash(f"recipients:{min(len(named), 31).bit_length()}")
    for label, address in named[:5]:
        yield _hash(f"to:{address[:200]}")
        yield _hash(f"to name:{bool(label)}")


def _way(views: Views) -> Iterator[int]:
    yield _hash(f"hops:{min(len(views.relays), 12)}")
    for relay in views.relays[:8]:
        if ":" in relay.ip:
            yield _hash(f"ip:{':'.join(relay.ip.split(':')[:4])}")
        else:
            octets = relay.ip.split(".")
            yield _hash(f"ip:{'.'.join(octets[:2])}")
            yield _hash(f"ip:{'.'.join(octets[:3])}")
        yield _hash(f"rdns:{'.'.join(relay.rdns.split('.')[-2:])[:100]}")
        yield _hash(f"helo:{'.'.join(relay.helo.split('.')[-2:])[:100]}")
        yield _hash(f"named:{bool(relay.rdns)}:{relay.rdns == relay.helo}")


def _links(views: Views) -> Iterator[int]:
    for host in list(views.hosts)[:LINK_LIMIT]:
        labels = host.split(".")
        yield _hash(f"u:{host}")
        for count in (2, 3):
            if len(labels) > count:
                yield _hash(f"u:{'.'.join(labels[-count:])}")
        yield _hash(f"ut:{labels[-1][:20]}")
    for uri in views.uris[:LINK_LIMIT]:
        path = uri.split(b"/", 3)[-1][:200]
        for word in _HEADER_WORD.findall(path)[:8]:
            yield crc32(b"up:" + word.lower())


def _fields(views: Views) -> Iterator[int]:
    for name, value in views.header.pairs()[:120]:
        lowered = name.lower()
        if lowered.startswith(_FILTERS):
            continue
        yield crc32(b"h:" + lowered)
        if lowered in _PASSED_OVER:
            continue
        for word in _HEADER_WORD.findall(value[:600])[:12]:
            yield crc32(lowered + b":" + word.lower())
    identifier = views.text_of("Message-ID")
    yield _hash(f"id:{_DIGITS.sub('0', identifier.rpartition('@')[2])[:100].lower()}")
    local = _LETTERS.sub("a", _DIGITS.sub("0", identifier.partition("@")[0][:100]))
    yield _hash(f"id form:{local[:40]}")
    date = views.text_of("Date")
    zone = _ZONE.search(date)
    yield _hash(f"zone:{zone[0]}" if zone else "no zone")
    for reply in ("References", "In-Reply-To"):
        yield _hash(f"{reply}:{bool(views.raw_values(reply))}")
