"""What the servers have promised, to be compared with what they have in the end."""

import hashlib
import random
import re
from collections import Counter
from dataclasses import dataclass, field

LINE = 60  # hexadecimal digits of a line
INBOX = "INBOX"
GONE = ""  # the place of a message that was removed


def message(name: str, size: int) -> bytes:
    """Return a message that says its name and proves its own integrity."""
    chance = random.Random(name)
    body = "\r\n".join(f"{chance.getrandbits(LINE * 4):060x}" for _ in range(size // (LINE + 2)))
    digest = hashlib.sha256(body.encode()).hexdigest()
    return (
        f"From: load@example.org\r\nTo: someone@example.test\r\nSubject: {name}\r\n"
        f"Message-ID: <{name}@example.org>\r\nX-Digest: {digest}\r\n\r\n{body}\r\n"
    ).encode()


def name_of(raw: bytes) -> str:
    """Return the name of a message; fail when it is torn."""
    name = re.search(rb"^Subject: (.+)\r$", raw, re.MULTILINE)
    digest = re.search(rb"^X-Digest: (.+)\r$", raw, re.MULTILINE)
    assert name is not None
    assert digest is not None
    body = raw.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
    assert hashlib.sha256(body).hexdigest() == digest[1].decode(), f"torn: {name[1]!r}"
    return name[1].decode()


@dataclass(frozen=True)
class FlagKey:
    """One keyword of one message, which one client changes."""

    login: str
    name: str  # of the message
    keyword: str


@dataclass
class Ledger:
    """The promises: messages by account, keywords, and what was to leave."""

    delivered: dict[str, set[str]] = field(default_factory=dict)  # by login: answered with 250
    submitted: set[str] = field(default_factory=set)  # answered with 250
    flags: dict[FlagKey, bool] = field(default_factory=dict)  # answered with OK
    unsure: set[FlagKey] = field(default_factory=set)  # an answer did not come: not judged
    # where a message may be, by login and name, once a client has filed or removed it
    places: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)  # temporary refusals, by what
    broken: Counter[str] = field(default_factory=Counter)  # connections that were lost, by what

    @property
    def promises(self) -> int:
        """How many there are."""
        delivered = sum(map(len, self.delivered.values()))
        return delivered + len(self.submitted) + len(self.flags) + len(self.places)

    def deliver(self, login: str, name: str) -> None:
        """Take down that a message was accepted for an account."""
        self.delivered.setdefault(login, set()).add(name)

    def file(self, login: str, name: str, *places: str) -> None:
        """Take down where a message is now; two places while nobody knows in which of them."""
        self.places[login, name] = set(places)

    def flag(self, key: FlagKey, on: bool) -> None:
        """Take down that a keyword was set or removed."""
        self.flags[key] = on

    def doubt(self, key: FlagKey) -> None:
        """Take down that nobody knows whether a change was made, and may yet be."""
        self.unsure.add(key)
        self.flags.pop(key, None)


@dataclass
class Found:
    """What an account has in the end."""

    names: Counter[str] = field(default_factory=Counter)
    mailboxes: dict[str, str] = field(default_factory=dict)  # by name of the message
    keywords: dict[str, set[str]] = field(default_factory=dict)  # by name of the message


def compare(ledger: Ledger, found: dict[str, Found], arrived: Counter[str]) -> list[str]:
    """Return every promise that was not kept, a line each."""
    problems = []
    for login, names in sorted(ledger.delivered.items()):
        have = found[login].names
        for name in sorted(names):
            allowed = ledger.places.get((login, name), {INBOX})
            place = found[login].mailboxes.get(name, GONE)
            if place not in allowed:
                problems.append(f"lost: {name} of {login} is in {place!r}, not in {allowed}")
        problems += [f"doubled: {n} of {login}" for n, times in sorted(have.items()) if times > 1]
    for key, on in ledger.flags.items():
        has = key.keyword in found[key.login].keywords.get(key.name, set())
        if has != on:
            problems.append(f"keyword {key.keyword} of {key.name} of {key.login} should be {on}")
    problems += [f"never sent: {name}" for name in sorted(ledger.submitted - arrived.keys())]
    return problems
