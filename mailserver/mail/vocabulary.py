"""The words of up to 50 messages, each once, with the messages that have it.

Here a word is what stands between ASCII characters that are neither letters nor digits, so a text
without such is in a message exactly if it is in one of its words. They are a fraction of the
texts: most searches need no more. Of another text they tell where it cannot be.
"""

import struct
import sys
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mailserver.errors import Corrupt
from mailserver.storage.compression import compressor, decompress_in_thread

ROWS = 64  # messages of one vocabulary: bits of a mask
LEVEL = 1  # of zstd
_PIECES = struct.Struct(">4I")  # octets of words and masks: those of bodies, then all others
_ROW_SIZE = 150  # octets that a message costs besides its share of the words
_BLANKED = bytes(code if code >= 128 or chr(code).isalnum() else 32 for code in range(256))


class Sought(NamedTuple):
    """A text as words are searched for it."""

    pieces: tuple[bytes, ...]  # what words have: NUL is where a word begins or ends
    exact: bool  # whether the text is wherever a word has its piece


def words(text: bytes) -> frozenset[bytes]:
    """Return the words of a text in the form in which it is compared."""
    return frozenset(text.translate(_BLANKED).split())


def sought(wanted: bytes) -> Sought | None:
    """Return what to look for in words; None of a text that says nothing about them."""
    blanked = wanted.translate(_BLANKED)
    pieces = blanked.split()
    if not pieces or b"\0" in wanted:
        return None
    last = len(pieces) - 1
    begins, ends = blanked.startswith(b" "), blanked.endswith(b" ")
    found = tuple(
        (b"\0" if at or begins else b"") + piece + (b"\0" if at < last or ends else b"")
        for at, piece in enumerate(pieces)
    )
    return Sought(found, exact=found == (wanted,))


class Vocabulary:
    """The words of some messages."""

    __slots__ = ("_packed", "_size", "cut", "ids")

    def __init__(self, ids: Sequence[int], cut: Iterable[int], packed: bytes) -> None:
        """Take what `pack` returned; `cut` are the messages that have more words."""
        if len(ids) > ROWS or len(packed) < _PIECES.size:
            raise Corrupt("stored words are cut")
        self.ids = ids
        self.cut = frozenset(cut)
        self._packed = packed

    @property
    def size(self) -> int:
        """About how many octets of memory this takes."""
        return len(self._packed) + _ROW_SIZE * len(self.ids)

    def matching(self, wanted: Sought, *, everywhere: bool) -> Sequence[int]:
        """Return the messages that have all pieces in words of their body, or also elsewhere."""
        every = (1 << len(self.ids)) - 1
        places = self._places()
        found = every
        for piece in wanted.pieces:
            there = 0
            for words, masks in places if everywhere else places[:1]:
                there |= _having(words, masks, piece, every)
                if there == every:
                    break
            found &= there
            if not found:
                return ()
        if found == every:
            return self.ids
        return [email_id for at, email_id in enumerate(self.ids) if found >> at & 1]

    def _places(self) -> "list[tuple[_Piece, _Piece]]":
        pieces = []
        start = _PIECES.size
        for size in _PIECES.unpack_from(self._packed):
            pieces.append(_Piece(self._packed[start : start + size]))
            start += size
        return [(pieces[0], pieces[1]), (pieces[2], pieces[3])]


class _Piece:
    """Octets that are decompressed when they are asked for."""

    __slots__ = ("_octets", "_packed")

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._octets: bytes | None = None

    def octets(self) -> bytes:
        if self._octets is None:
            self._octets = decompress_in_thread(self._packed)
        return self._octets


def _having(packed: _Piece, packed_masks: _Piece, piece: bytes, every: int) -> int:
    """Return the mask of the messages that have a piece in a word."""
    words = packed.octets()
    at = words.find(piece)
    if at < 0:
        return 0
    masks = array("Q", packed_masks.octets())
    if sys.byteorder == "big":
        masks.byteswap()
    inside = piece.startswith(b"\0")  # then the word begins one octet behind
    found = counted = 0
    number = -1
    while at >= 0:
        start = at + inside
        number += words.count(b"\0", counted, start)
        found |= masks[number]
        if found == every:
            break
        counted = start
        at = words.find(piece, words.index(b"\0", start))
    return found


def pack(rows: Iterable[tuple[Iterable[bytes], Iterable[bytes]]]) -> bytes:
    """Return the words of messages, given as those of the body and those of other texts."""
    places: tuple[dict[bytes, int], ...] = (defaultdict(int), defaultdict(int))
    for number, row in enumerate(rows):
        bit = 1 << number
        for masks, found in zip(places, row, strict=True):
            for word in found:
                masks[word] |= bit
    compress = compressor(LEVEL)
    pieces = [
        compress(octets)
        for masks in places
        for octets in (b"\0%b\0" % b"\0".join(masks), _little(array("Q", masks.values())))
    ]
    return _PIECES.pack(*map(len, pieces)) + b"".join(pieces)


def _little(masks: "array[int]") -> bytes:
    if sys.byteorder == "big":
        masks.byteswap()
    return masks.tobytes()
