"""`spam train`, `status`, `score`, `forget`: what the content filter knows and finds."""

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from mailserver.antispam.content.filter import ContentFilter
from mailserver.antispam.content.learning import Opinion, learn, tidy
from mailserver.antispam.content.models import Models
from mailserver.antispam.content.reputation import Reputation
from mailserver.antispam.content.stored import as_inquiry
from mailserver.antispam.content.tokens import features
from mailserver.antispam.content.views import Views
from mailserver.app.access import Access
from mailserver.cli import mailfile
from mailserver.cli.mailfile import TooLong
from mailserver.cli.spam import commands
from mailserver.cli.target import ConfigFile, DataDir, Json, failing, run, show_done, show_json
from mailserver.errors import Invalid
from mailserver.mail import accounts
from mailserver.model import AccountId, BlobId
from mailserver.storage import lessons, spam_models

__all__ = ["commands"]

BATCH = 100  # messages learned in one transaction

Whose = Annotated[
    str | None,
    typer.Option("--account", metavar="LOGIN", help="What this account taught, not the server."),
]


@commands.command()
def train(
    spam: Annotated[
        list[Path] | None, typer.Option("--spam", help="An mbox, a Maildir, .eml or a folder.")
    ] = None,
    ham: Annotated[
        list[Path] | None, typer.Option("--ham", help="The same, of mail that is wanted.")
    ] = None,
    account: Whose = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Teach the content filter from files; what it has learned already counts once."""
    given = [(path, True) for path in spam or []] + [(path, False) for path in ham or []]
    with failing(json):
        if not given:
            raise Invalid("name files with --spam or --ham")

    async def work(store: Access) -> dict[str, int]:
        owner = await _owner(store, account)
        limit = store.config.smtp.max_message_size
        done = {"spam": 0, "ham": 0, "known": 0}
        for path, is_spam in given:
            messages = _messages(path, limit)
            while some := await asyncio.to_thread(_some_opinions, messages, is_spam):
                async with store.database.transaction() as tx:
                    learned = await learn(tx, owner, some)
                done["spam" if is_spam else "ham"] += learned
                done["known"] += len(some) - learned
                await tidy(store.database, owner)
        return done

    done = run(work, data_dir=data_dir, config=config, json=json)
    text = "{spam} spam and {ham} other messages learned, {known} were known".format_map(done)
    show_done(json, text, **done)


@commands.command()
def forget(
    account: Whose = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Forget everything that the content filter has learned, of the server or an account."""

    async def work(store: Access) -> None:
        owner = await _owner(store, account)
        async with store.database.transaction() as tx:
            await spam_models.lock(tx, owner)
            await spam_models.forget(tx, owner)

    run(work, data_dir=data_dir, config=config, json=json)
    whose = account or "the server"
    show_done(json, f"all that was learned for {whose} is forgotten", forgotten=whose)


@commands.command()
def status(
    account: Whose = None,
    unusable: Annotated[
        bool, typer.Option("--unusable", help="Also the rules that cannot be used, and why.")
    ] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show how much the content filter has learned, and its rules."""

    async def work(store: Access) -> dict[str, object]:
        content, models = _filter(store)
        await content.load()
        counts = models.server
        if account is not None:
            found = await accounts.find(store.mail, account)
            own = await models.of_account(found.id)
            counts = own if own is not None else type(counts)(1)
        engine = content.engine
        shown: dict[str, object] = {
            "spam": counts.spam_lessons,
            "ham": counts.ham_lessons,
            "lessons_waiting": await lessons.waiting(store.database),
            "accounts": await spam_models.accounts(store.database),
            "rules": len(engine),
            "rules_unusable": len(engine.unusable),
        }
        if unusable:
            shown["unusable"] = dict(sorted(engine.unusable.items()))
        return shown

    shown = run(work, data_dir=data_dir, config=config, json=json)
    if json:
        show_json(shown)
        return
    for name, value in shown.items():
        if isinstance(value, dict):
            for rule, why in value.items():
                typer.echo(f"  {rule}: {why}")
        else:
            typer.echo(f"{name.replace('_', ' ')}: {value}")


@commands.command()
def score(
    file: Annotated[Path, typer.Argument(help="A message, as it was received or stored.")],
    account: Whose = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show what the content filter finds in a message; nothing is learned from it."""
    with failing(json):
        raw = file.read_bytes()

    async def work(store: Access) -> list[tuple[str, float, str]]:
        content, _ = _filter(store)
        await content.load()
        inquiry = as_inquiry(raw, datetime.now(UTC))
        finding = await content.judge(inquiry, ())
        symbols = list(finding.symbols)
        if account is not None:
            found = await accounts.find(store.mail, account)
            symbols += (await content.judge_for(found.id, inquiry, (finding,))).symbols
        symbols.sort(key=lambda symbol: -abs(symbol.score))
        return [(each.name, each.score, each.description) for each in symbols]

    rows = run(work, data_dir=data_dir, config=config, json=json)
    total = round(sum(each for _, each, _ in rows), 2)
    if json:
        names = ("rule", "score", "text")
        show_json({"score": total, "rules": [dict(zip(names, row, strict=True)) for row in rows]})
        return
    for name, value, text in rows:
        typer.echo(f"{value:7.2f}  {name:<24} {text}")
    typer.echo(f"{total:7.2f}  in all")


def _filter(store: Access) -> tuple[ContentFilter, Models]:
    settings = store.config.content
    models = Models(store.database)
    return ContentFilter(
        settings.folders(),
        models=models,
        reputation=Reputation(store.database, store.mail.now),
        minimum=settings.minimum_lessons,
    ), models


async def _owner(store: Access, account: str | None) -> int:
    if account is None:
        return spam_models.SERVER
    return AccountId((await accounts.find(store.mail, account)).id)


def _messages(path: Path, limit: int) -> Iterator[bytes]:
    for entry in mailfile.read(path, limit):
        if not isinstance(entry, TooLong):
            yield entry.raw


def _some_opinions(messages: Iterator[bytes], spam: bool) -> dict[BlobId, Opinion]:
    """Read the next messages of a file; what they say is worked out off the event loop."""
    some: Sequence[bytes] = list(islice(messages, BATCH))
    now = datetime.now(UTC)
    return {
        BlobId(hashlib.sha256(raw).digest()): Opinion(spam, features(Views(as_inquiry(raw, now))))
        for raw in some
    }
