"""`import`: mail from files into an account."""

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Protocol

import typer

from mailserver.app.access import Access
from mailserver.app.exits import Exit, reason
from mailserver.cli import mailfile
from mailserver.cli.mailfile import Dates, Entry, Item, TooLong
from mailserver.cli.target import (
    AccountOption,
    ConfigFile,
    DataDir,
    Json,
    failing,
    run,
    show_json,
)
from mailserver.errors import AlreadyExists, Invalid, MailError, NotFound, Unavailable
from mailserver.mail import accounts, delivery, mailboxes
from mailserver.mail.context import Mail
from mailserver.mail.delivery import Target
from mailserver.model import AccountId, BlobId, MailboxId
from mailserver.storage import bodies

IN_FLIGHT = 64  # messages at once: as many as one commit takes
IN_FLIGHT_BYTES = 64 * 1024 * 1024
SHOWN_FAILURES = 20


@dataclass(slots=True)
class Report:
    """What became of the messages of an import."""

    imported: int = 0
    duplicates: int = 0
    octets: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)


class Progress(Protocol):
    """Something that shows how far a long command is."""

    def advance(self, octets: int) -> None:
        """Count more bytes as done."""
        ...


def import_mail(
    path: Annotated[Path, typer.Argument(help="An mbox, a Maildir, a .eml or a folder of them.")],
    account: AccountOption,
    mailbox: Annotated[
        str | None,
        typer.Option("--mailbox", metavar="NAME", help="Where the mail goes instead of INBOX."),
    ] = None,
    dates: Annotated[
        Dates, typer.Option(help="Date of arrival: from the file, or from Received and Date.")
    ] = Dates.FILE,
    skip_duplicates: Annotated[
        bool, typer.Option("--skip-duplicates", help="Pass over mail the account has already.")
    ] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Import mail. The folders of a Maildir++ or of a tree become mailboxes."""
    with failing(json):
        folders = mailfile.folders(path)
        total = mailfile.total_bytes(path)

    async def work(store: Access) -> Report:
        limit = store.config.smtp.max_message_size
        entries = mailfile.read(path, limit, dates)
        owner = (await accounts.find(store.mail, account)).id
        destinations = await _mailboxes(store.mail, owner, folders, mailbox)
        with progress_bar(total, shown=not json) as progress:
            job = Import(store.mail, owner, destinations, skip_duplicates, progress)
            await job.run(entries)
        return job.report

    report = run(work, data_dir=data_dir, config=config, json=json)
    _show(report, json)
    if report.failures:
        raise typer.Exit(Exit.FAILED)


class Import:
    """One import: many messages on their way at once, so that commits are shared."""

    def __init__(
        self,
        mail: Mail,
        account: AccountId,
        destinations: dict[tuple[str, ...], MailboxId],
        skip_duplicates: bool,
        progress: Progress,
    ) -> None:
        self.report = Report()
        self._mail = mail
        self._account = account
        self._destinations = destinations
        self._skip_duplicates = skip_duplicates
        self._progress = progress
        self._seen: set[bytes] = set()

    async def run(self, entries: Iterator[Entry]) -> None:
        """Import everything; Unavailable ends it, any other failure only its message."""
        tasks: dict[asyncio.Task[None], int] = {}
        try:
            while batch := await asyncio.to_thread(_next_batch, entries):
                for entry in batch:
                    while tasks and _is_full(tasks):
                        await _one_done(tasks)
                    size = len(entry.raw) if isinstance(entry, Item) else 0
                    tasks[asyncio.create_task(self._one(entry))] = size
            while tasks:
                await _one_done(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, entry: Entry) -> None:
        if isinstance(entry, TooLong):
            self._failed(entry.place, f"{entry.size} bytes are more than smtp.max_message_size")
            return
        if self._skip_duplicates and await self._is_known(entry.raw):
            self.report.duplicates += 1
            self._progress.advance(len(entry.raw))
            return
        try:
            target = Target(self._account, self._destinations[entry.folder], entry.flags)
            received_at = entry.received_at or self._mail.now()
            await delivery.accept(self._mail, entry.raw, [target], received_at=received_at)
        except Unavailable:
            raise
        except MailError as error:
            self._failed(entry.place, reason(error))
            return
        self.report.imported += 1
        self.report.octets += len(entry.raw)
        self._progress.advance(len(entry.raw))

    async def _is_known(self, raw: bytes) -> bool:
        blob = BlobId(hashlib.sha256(raw).digest())
        if blob in self._seen:
            return True
        self._seen.add(blob)
        return bool(await bodies.referenced(self._mail.database, self._account, [blob]))

    def _failed(self, place: str, text: str) -> None:
        self.report.failures.append({"place": place, "reason": text})


async def _mailboxes(
    mail: Mail, account: AccountId, folders: list[tuple[str, ...]], top: str | None
) -> dict[tuple[str, ...], MailboxId]:
    """Return the mailbox of each folder, made if it is missing."""
    found: dict[tuple[str, ...], MailboxId] = {}
    for folder in folders:
        parts = [*([top] if top else []), *(part.replace("/", "_") for part in folder)]
        path = "/".join(parts) or "INBOX"
        try:
            mailbox = await mailboxes.by_path(mail, account, path)
        except NotFound:
            try:
                made = await mailboxes.create(mail, account, path, subscribed=True)
                mailbox = made[-1]
            except AlreadyExists:
                mailbox = await mailboxes.by_path(mail, account, path)
            except Invalid as error:
                raise Invalid(f"mailbox {path!r}: {error}") from None
        found[folder] = mailbox.id
    return found


def _next_batch(entries: Iterator[Entry]) -> list[Entry]:
    """Read a few messages; called in a thread, because files may be slow."""
    batch: list[Entry] = []
    octets = 0
    for entry in entries:
        batch.append(entry)
        octets += len(entry.raw) if isinstance(entry, Item) else 0
        if len(batch) >= IN_FLIGHT or octets >= IN_FLIGHT_BYTES // 4:
            break
    return batch


def _is_full(tasks: dict[asyncio.Task[None], int]) -> bool:
    return len(tasks) >= IN_FLIGHT or sum(tasks.values()) >= IN_FLIGHT_BYTES


async def _one_done(tasks: dict[asyncio.Task[None], int]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        del tasks[task]
        task.result()


def _show(report: Report, json: bool) -> None:
    if json:
        show_json(
            {
                "imported": report.imported,
                "bytes": report.octets,
                "duplicates": report.duplicates,
                "failures": report.failures,
            }
        )
        return
    typer.echo(
        f"{report.imported} messages imported, {report.octets} bytes;"
        f" {report.duplicates} duplicates passed over, {len(report.failures)} failed"
    )
    for failure in report.failures[:SHOWN_FAILURES]:
        typer.echo(f"  {failure['place']}: {failure['reason']}", err=True)
    if len(report.failures) > SHOWN_FAILURES:
        typer.echo("  ... --json lists all", err=True)


class _Silent:
    def advance(self, octets: int) -> None:
        pass


@contextmanager
def progress_bar(total: int, *, shown: bool) -> Iterator[Progress]:
    """Show a bar on standard error while it is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield _Silent()
        return
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    bar = RichProgress(BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console)
    task = bar.add_task("mail", total=total)

    class Shown:
        def advance(self, octets: int) -> None:
            bar.advance(task, octets)

    with bar:
        yield Shown()
