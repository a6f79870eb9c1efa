"""Which thread a new message belongs to (RFC 8621 §3)."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from mailserver.mime import Digest
from mailserver.model import AccountId, EmailId, ThreadId

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


def join(
    refs: dict[tuple[AccountId, int], ThreadId],
    known: Mapping[tuple[AccountId, int], ThreadId],
    account: AccountId,
    keys: Sequence[int],
    email: EmailId,
) -> ThreadId:
    """Choose the thread of a message by its keys; a new one takes the id of the message.

    `known` is what is stored; keys that were not are added to `refs`, and lead to the thread.
    """
    found = [refs.get((account, key)) or known.get((account, key)) for key in keys]
    thread = ThreadId(oldest(thread for thread in found if thread is not None) or email)
    for key in keys:
        if (account, key) not in known:
            refs.setdefault((account, key), thread)
    return thread


def oldest(threads: Iterable[int]) -> int | None:
    """Choose among threads that a message could join: an Email's threadId never changes."""
    return min(threads, default=None)
