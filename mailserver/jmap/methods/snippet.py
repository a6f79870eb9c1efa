"""SearchSnippet/get (RFC 8621 §5.1)."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from mailserver.errors import Unavailable
from mailserver.jmap.methods.body import LARGE, batches
from mailserver.jmap.methods.get import wanted
from mailserver.jmap.methods.view import View
from mailserver.jmap.protocol import properties
from mailserver.jmap.protocol.filters import email_filter
from mailserver.jmap.protocol.ids import email_text
from mailserver.jmap.protocol.properties import nullable, optional, required, text, texts
from mailserver.jmap.protocol.snippets import Words, marked, marked_part, words_of_filter
from mailserver.jmap.session import Session
from mailserver.mail import content, search
from mailserver.mime import parse, search_text
from mailserver.model import BlobId, IdKind


@dataclass(frozen=True, slots=True, kw_only=True)
class GetSnippets:
    """The arguments of SearchSnippet/get."""

    account_id: str = required("accountId", text)
    email_ids: tuple[str, ...] = required("emailIds", texts)
    filter: dict[str, object] | None = optional("filter", nullable(properties.mapping), None)


async def get(session: Session, asked: GetSnippets) -> dict[str, object]:
    """Return where the words of a filter are in the subjects and the text of emails."""
    words = words_of_filter(email_filter(asked.filter))
    ids = wanted(session, IdKind.EMAIL, asked.email_ids)
    numbers = [each for each in ids.values() if each is not None]
    places, stored = await search.places(
        session.mail, session.account, numbers, envelopes_of=numbers, within=session.view.readable
    )
    views = {
        each: View(each, place, stored[each], b"")
        for each, place in places.items()
        if each in stored
    }
    snippets: dict[int, dict[str, object]] = {}
    for batch in batches(views):
        snippets.update(await _snippets(session, words, dict(batch)))
    missing = [text for text, each in ids.items() if each not in snippets]
    return {
        "accountId": session.account_id,
        "list": [snippets[each] for each in ids.values() if each in snippets],
        "notFound": missing or None,
    }


async def _snippets(
    session: Session, words: Words, emails: Mapping[int, View]
) -> dict[int, dict[str, object]]:
    """Read the messages if the filter looks for words in them; without S3 there is no snippet."""
    raws: Mapping[BlobId, bytes] = {}
    if words.body:
        blobs = [email.blob_id for email in emails.values()]
        try:
            raws = await content.contents(session.mail, session.account, blobs)
        except Unavailable:
            words = Words(None, None)
    if sum(map(len, raws.values())) > LARGE:  # other sessions go on meanwhile
        return await asyncio.to_thread(_marked, words, emails, raws)
    return _marked(words, emails, raws)


def _marked(
    words: Words, emails: Mapping[int, View], raws: Mapping[BlobId, bytes]
) -> dict[int, dict[str, object]]:
    found: dict[int, dict[str, object]] = {}
    for each, email in emails.items():
        subject = orjson.loads(email.convenience["subject"]) or ""
        found[each] = {
            "emailId": email_text(each),
            "subject": marked(subject, words.subject),
            "preview": _preview(raws.get(email.blob_id), words),
        }
    return found


def _preview(raw: bytes | None, words: Words) -> str | None:
    if raw is None:
        return None
    found = search_text(raw, parse(raw))
    text = " ".join(f"{found.body}\n{found.attachments}".split())
    return marked_part(text, words.body)
