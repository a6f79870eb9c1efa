"""`mailserver trace`: the whole story of a message, in plain words."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from mailserver.antispam import trace as traces
from mailserver.antispam.trace import Told
from mailserver.app.access import Access
from mailserver.cli.queue import in_words
from mailserver.cli.target import ConfigFile, DataDir, Json, failing, run, show_json
from mailserver.errors import NotFound
from mailserver.mail import queueing
from mailserver.mail.queueing import Entry, Filter
from mailserver.model import IdKind, id_text, id_value

STAGES = {
    "connect": "when it connected",
    "sender": "when it named the sender",
    "recipient": "when it named a recipient, before the message was sent",
    "message": "after the message was received",
}


def trace(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="An address, a Message-ID, or the id of a session, an email or a queued message.",
        ),
    ],
    limit: Annotated[int, typer.Option(min=1, help="Messages shown at most, the newest.")] = 20,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Tell what became of a message, and why: from the connection to the other server."""
    with failing(json):
        words = traces.keys_of(what)

    async def work(store: Access) -> tuple[list[Told], list[Entry]]:
        told = await traces.find(store.database, words, limit)
        return told, await _queued(store, words, told, limit)

    told, queued = run(work, data_dir=data_dir, config=config, json=json)
    if json:
        show_json(
            {
                "messages": [{"at": each.at, **each.story} for each in told],
                "queue": [_queue_row(entry) for entry in queued],
            }
        )
        return
    with failing(json):
        if not told and not queued:
            raise NotFound(f"nothing is known of {what}")
    now = datetime.now(UTC)
    shown: set[tuple[int, str]] = set()
    for each in told:
        own = [
            entry
            for entry in queued
            if id_text(IdKind.QUEUE, entry.message_id) == each.story.get("stored")
        ]
        shown.update((entry.message_id, entry.recipient) for entry in own)
        typer.echo("\n".join([*story_in_words(each), *_outgoing_in_words(own, now)]) + "\n")
    for entry in queued:
        if (entry.message_id, entry.recipient) not in shown:
            typer.echo("\n".join(_outgoing_in_words([entry], now)) + "\n")


async def _queued(
    store: Access, words: Sequence[str], told: Sequence[Told], limit: int
) -> list[Entry]:
    """Return what the queue knows: of these messages, and by the words themselves."""
    texts = [*words, *(str(each.story.get("stored", "")) for each in told)]
    ids = [number for text in texts if (number := id_value(IdKind.QUEUE, text)) is not None]
    filters = [Filter(ids=ids)] if ids else []
    if "@" in words[0]:
        filters += [Filter(sender=words[0]), Filter(recipient=words[0])]
    found = {}
    for wanted in filters:
        async for entry in queueing.found(store.mail, wanted, limit * 50):
            found[entry.message_id, entry.recipient] = entry
    return [found[key] for key in sorted(found)]


def story_in_words(told: Told) -> list[str]:
    """Tell what became of one message, or of an attempt to send one."""
    story: Mapping[str, Any] = told.story
    said = story.get("helo")
    came = f"{story.get('peer')}{f' ({said})' if said else ''}"
    login = story.get("login")
    lines = [
        f"{told.at:%Y-%m-%d %H:%M:%S} UTC, session {story['session']}",
        f"  From {came}{f', logged in as {login}' if login else ''}"
        f"{', with ' + str(story['tls']) if story.get('tls') else ', without TLS'}.",
        f"  Sender <{story.get('sender', '')}>, {_recipients(story.get('recipients', ()))}"
        f"{', ' + str(story['size']) + ' bytes' if story.get('size') else ''}.",
    ]
    if story.get("message_id"):
        lines.append(f"  Message-ID <{story['message_id']}>.")
    lines += [_finding(each) for each in story.get("findings", ())]
    for finding in story.get("findings", ()):
        lines += [_symbol(each) for each in finding.get("symbols", ())]
    reason = story.get("reason")
    because = f", because of: {reason}" if reason else ""
    word = str(story.get("action", "")).capitalize()
    lines.append(f"  {word} {STAGES[story['stage']]}{because}.")
    lines.append(f"  The other side was told: {' / '.join(str(story.get('reply')).splitlines())}")
    lines += [
        f"  {place['account']} has it in {'Junk' if place['mailbox'] == 'junk' else 'INBOX'}"
        f"{', because of: ' + place['reason'] if place.get('reason') else ''}."
        for place in story.get("places", ())
    ]
    return lines


def _recipients(found: Sequence[str]) -> str:
    if not found:
        return "no recipient yet"
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    plural = "recipient" if len(found) == 1 else "recipients"
    return f"{plural} {', '.join(f'<{each}>' for each in found[:5])}{more}"


def _finding(finding: Mapping[str, Any]) -> str:
    reason = f": {finding['reason']}" if finding.get("reason") else ""
    took = f" ({finding['seconds'] * 1000:.0f} ms)" if finding.get("seconds") else ""
    return f"  Check {finding['check']} says {finding['result']}{reason}{took}."


def _symbol(symbol: Mapping[str, Any]) -> str:
    about = f"  {symbol['description']}" if symbol.get("description") else ""
    return f"    {symbol['score']:+6.2f} {symbol['name']}{about}"


def _outgoing_in_words(entries: Sequence[Entry], now: datetime) -> list[str]:
    """Tell how far the delivery to other servers is."""
    lines = []
    for entry in entries:
        name = id_text(IdKind.QUEUE, entry.message_id)
        lines.append(f"  To <{entry.recipient}> from <{entry.sender}>, in the queue as {name}:")
        lines += [f"    {line}" for line in in_words(entry, now)]
    return lines


def _queue_row(entry: Entry) -> dict[str, object]:
    return {
        "message": id_text(IdKind.QUEUE, entry.message_id),
        "recipient": entry.recipient,
        "state": entry.state.name.lower(),
        "from": entry.sender,
        "received_at": entry.received_at,
        "attempts": entry.attempts,
        "last_attempt": entry.last_attempt,
        "reply": entry.last_reply,
        "remote": entry.remote,
        "session": entry.session,
    }
