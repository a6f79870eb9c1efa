"""Which thread a new message belongs to (RFC 8621 §3)."""

import hashlib
from collections.abc import Iterable

from mailserver.mime import Digest

MAX_REFERENCES = 32  # of a message; the first and the latest ones count


def thread_hashes(message: Digest) -> list[int]:
    """Return the keys of a message, its own first: a hash of each message id and base subject.

    Two messages are of one thread when they share a key: a message id alone joins strangers,
    because some clients reply to an old message to write a new one.
    """
    ids: list[str] = [message.message_id] if message.message_id else []
    references = message.references
    if len(references) > MAX_REFERENCES:
        references = references[:1] + references[-(MAX_REFERENCES - 1) :]
    ids.extend(references)
    return list(dict.fromkeys(_hash(text, message.subject_base) for text in ids))


def _hash(message_id: str, subject: str) -> int:
    text = f"{message_id}\0{subject.casefold()}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), signed=True)


def oldest(threads: Iterable[int]) -> int | None:
    """Choose among threads that a message could join: an Email's threadId never changes."""
    return min(threads, default=None)
