"""What was learned: how often each feature was in spam and in other mail, and what follows from it.

A naive Bayes classifier whose evidence is averaged by group of features (`tokens.Features`): so a
long text does not drown who wrote it; the groups are then weighed as `calibration` says. Only
counts are kept, so a lesson can be taken back exactly.
"""

import struct
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import exp, log

from mailserver.antispam.content import calibration
from mailserver.antispam.content.tokens import VERSION, Features

SERVER_BITS = 20  # 8 MiB of counts
ACCOUNT_BITS = 17  # 1 MiB
_HEADER = struct.Struct("<HHIIQ")  # version, bits, ham, spam, number of features


class Incompatible(Exception):
    """What was stored was learned with other features."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A message that somebody called spam or not; negative `times` take lessons back."""

    features: Features
    spam: bool
    times: int = 1


class Counts:
    """How many spam and ham messages had each feature; features share places by their last bits.

    Both numbers of a place are one of 64 bits, `_joined`: what is slow is to get them from memory.
    """

    __slots__ = ("bits", "ham_lessons", "numbers", "spam_lessons")

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.numbers = array("Q", (0,)) * (1 << bits)
        self.ham_lessons = 0
        self.spam_lessons = 0

    @property
    def size(self) -> int:
        """Octets of memory."""
        return 8 << self.bits

    @property
    def lessons(self) -> int:
        """How many messages were learned."""
        return self.ham_lessons + self.spam_lessons

    def learn(self, lesson: Lesson) -> None:
        """Count a message, or no longer; what was never counted is not taken back."""
        self.add(delta_of([lesson], self.bits))

    def add(self, delta: "Delta") -> None:
        """Add counts; places of a delta for more bits fall together."""
        mask = (1 << self.bits) - 1
        for place, ham, spam in zip(delta.places, delta.ham, delta.spam, strict=True):
            at = place & mask
            ham_before, spam_before = _apart(self.numbers[at])
            self.numbers[at] = _joined(max(ham_before + ham, 0), max(spam_before + spam, 0))
        self.ham_lessons = max(self.ham_lessons + delta.ham_lessons, 0)
        self.spam_lessons = max(self.spam_lessons + delta.spam_lessons, 0)

    def pack(self) -> bytes:
        """Return all that is not zero."""
        places = array("I", (at for at, number in enumerate(self.numbers) if number))
        header = _HEADER.pack(VERSION, self.bits, self.ham_lessons, self.spam_lessons, len(places))
        columns = zip(*(_apart(self.numbers[at]) for at in places), strict=True)
        return header + places.tobytes() + b"".join(array("I", each).tobytes() for each in columns)

    @classmethod
    def unpack(cls, data: bytes) -> "Counts":
        """Read what `pack` made; Incompatible when it means nothing now."""
        version, bits, ham, spam, length = _HEADER.unpack_from(data)
        if version != VERSION:
            raise Incompatible(f"features of version {version}")
        counts = cls(bits)
        counts.ham_lessons, counts.spam_lessons = ham, spam
        places, hams, spams = _columns(data[_HEADER.size :], length, "III")
        for at, some_ham, some_spam in zip(places, hams, spams, strict=True):
            counts.numbers[at] = _joined(some_ham, some_spam)
        return counts


def _joined(ham: int, spam: int) -> int:
    return spam << 32 | ham


def _apart(number: int) -> tuple[int, int]:
    return number & 0xFFFFFFFF, number >> 32


@dataclass(frozen=True, slots=True)
class Delta:
    """What lessons change."""

    places: "array[int]"
    ham: "array[int]"  # how many more messages; may be negative
    spam: "array[int]"
    ham_lessons: int = 0
    spam_lessons: int = 0

    def pack(self) -> bytes:
        """Return it as octets."""
        header = struct.pack(
            "<HiiI", VERSION, self.ham_lessons, self.spam_lessons, len(self.places)
        )
        return header + self.places.tobytes() + self.ham.tobytes() + self.spam.tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> "Delta":
        """Read what `pack` made; Incompatible when it means nothing now."""
        version, ham, spam, length = struct.unpack_from("<HiiI", data)
        if version != VERSION:
            raise Incompatible(f"features of version {version}")
        places, hams, spams = _columns(data[struct.calcsize("<HiiI") :], length, "Iii")
        return cls(places, hams, spams, ham, spam)


def _columns(data: bytes, length: int, types: str) -> list["array[int]"]:
    columns = []
    for at, letter in enumerate(types):
        column: array[int] = array(letter)
        column.frombytes(data[4 * length * at : 4 * length * (at + 1)])
        columns.append(column)
    return columns


def delta_of(lessons: Iterable[Lesson], bits: int) -> Delta:
    """Return what lessons change, for a model of that many bits."""
    mask = (1 << bits) - 1
    changed: dict[int, list[int]] = {}
    totals = [0, 0]
    for lesson in lessons:
        totals[lesson.spam] += lesson.times
        # a message counts once for a place, however many of its features share it
        for place in {each & mask for group in lesson.features for each in group}:
            changed.setdefault(place, [0, 0])[lesson.spam] += lesson.times
    rows = {place: counts for place, counts in sorted(changed.items()) if counts != [0, 0]}
    return Delta(
        array("I", rows),
        array("i", (ham for ham, _ in rows.values())),
        array("i", (spam for _, spam in rows.values())),
        *totals,
    )


# Judging -----------------------------------------------------------------------------------------


def evidence(
    features: Features, server: Counts, own: Counts | None = None, weight: int = 1
) -> list[float]:
    """Return for each group the mean logarithm of the odds that its features speak of spam.

    What speaks clearly weighs more: each logarithm counts as much as it is far from even odds.
    `own` is what one account taught, each lesson counted `weight` times. A feature is as credible
    as it is frequent (Robinson); those that say little are left out.
    """
    ham_total = server.ham_lessons + (own.ham_lessons * weight if own else 0)
    spam_total = server.spam_lessons + (own.spam_lessons * weight if own else 0)
    if not ham_total or not spam_total:
        return [0.0] * len(features)
    return [_mean_odds(group, server, own, weight, spam_total / ham_total) for group in features]


def _mean_odds(
    group: Iterable[int], server: Counts, own: Counts | None, weight: int, ratio: float
) -> float:
    strength = calibration.STRENGTH
    total, weight_of_all = 0.0, calibration.DAMPING
    for number, features in _by_numbers(group, server, own, weight).items():
        ham, spam = _apart(number)
        seen = ham + spam
        if not seen:
            continue
        share = spam / (spam + ham * ratio)
        belief = (strength * 0.5 + seen * share) / (strength + seen)
        if abs(belief - 0.5) < calibration.INDIFFERENT:
            continue
        odds = log(belief / (1 - belief))
        total += features * odds * abs(odds)
        weight_of_all += features * abs(odds)
    return total / weight_of_all


def _by_numbers(
    group: Iterable[int], server: Counts, own: Counts | None, weight: int
) -> Mapping[int, int]:
    """Return how many features were in so many ham and spam messages; few numbers are frequent."""
    mask = (1 << server.bits) - 1
    numbers = map(server.numbers.__getitem__, [feature & mask for feature in group])
    if own is None:
        return Counter(numbers)
    own_mask = (1 << own.bits) - 1
    taught = map(own.numbers.__getitem__, [feature & own_mask for feature in group])
    # joined numbers are added, and multiplied, as if they were apart
    return Counter(one + more * weight for one, more in zip(numbers, taught, strict=True))


def margin(means: Iterable[float]) -> float:
    """Weigh the groups: positive speaks for spam."""
    weighed = zip(calibration.WEIGHTS, means, strict=True)
    return calibration.BIAS + sum(weight * mean for weight, mean in weighed)


def probability(value: float) -> float:
    """Return how likely a message with that margin is spam, where half of all mail is."""
    return 1 / (1 + exp(-max(min(value, 30.0), -30.0)))
