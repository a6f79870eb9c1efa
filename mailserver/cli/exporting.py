"""`export`: the mail of an account into files."""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Protocol

import typer

from mailserver.app.access import Access
from mailserver.cli import mailfile
from mailserver.cli.importing import Progress, progress_bar
from mailserver.cli.target import (
    AccountOption,
    ConfigFile,
    DataDir,
    Json,
    MailboxOption,
    run,
    show_done,
)
from mailserver.errors import AlreadyExists
from mailserver.mail import accounts, content, listings, mailboxes, messages
from mailserver.mail.context import Mail
from mailserver.mail.listings import Listing
from mailserver.mime.headers import header_fields, unfold
from mailserver.model import Email, Flags

BATCH = 50  # messages read at once
BATCH_BYTES = 32 * 1024 * 1024


class Format(StrEnum):
    """How mail is kept in files."""

    MAILDIR = "maildir"
    MBOX = "mbox"
    EML = "eml"


class Writer(Protocol):
    """Writes the messages of one mailbox."""

    def add(self, uid: int, raw: bytes, flags: Flags, received_at: datetime) -> None:
        """Write one message."""
        ...

    def close(self) -> None:
        """Write what belongs to the whole mailbox."""
        ...


class MaildirWriter:
    """A Maildir, or a folder `.A.B` in one."""

    def __init__(self, destination: Path, path: Sequence[str]) -> None:
        top = destination
        if tuple(path) != ("INBOX",):
            top = destination / mailfile.to_maildir_name(path)
        for part in ("cur", "new", "tmp"):
            (top / part).mkdir(parents=True, exist_ok=True)
        if top != destination:
            for part in ("cur", "new", "tmp"):
                (destination / part).mkdir(exist_ok=True)
            (top / "maildirfolder").touch()
        self._top = top
        self._keywords: list[str] = []

    def add(self, uid: int, raw: bytes, flags: Flags, received_at: datetime) -> None:
        """Write one message into `cur`, by way of `tmp`."""
        letters = mailfile.flag_letters(flags, self._keywords)
        name = f"{uid}.{int(received_at.timestamp())}.mailserver,S={len(raw)}:2,{letters}"
        _write(self._top / "tmp" / name, self._top / "cur" / name, mailfile.to_lf(raw), received_at)

    def close(self) -> None:
        """Write the names of the keywords."""
        mailfile.write_keywords(self._top, self._keywords)


class EmlWriter:
    """A folder with a file for each message, `17.FS.eml`."""

    def __init__(self, destination: Path, path: Sequence[str]) -> None:
        self._top = destination.joinpath(*map(mailfile.to_file_name, path))
        self._top.mkdir(parents=True, exist_ok=True)
        self._keywords: list[str] = []

    def add(self, uid: int, raw: bytes, flags: Flags, received_at: datetime) -> None:
        """Write one message as it is, with CRLF."""
        letters = mailfile.flag_letters(flags, self._keywords)
        file = self._top / f"{uid}.{letters}.eml"
        _write(file.with_suffix(".part"), file, raw, received_at)

    def close(self) -> None:
        """Write the names of the keywords."""
        mailfile.write_keywords(self._top, self._keywords)


class MboxWriter:
    """One file with all messages."""

    def __init__(self, destination: Path, path: Sequence[str]) -> None:
        *parents, name = map(mailfile.to_file_name, path)
        file = destination.joinpath(*parents, f"{name}.mbox")
        file.parent.mkdir(parents=True, exist_ok=True)
        self._stream = file.open("xb")

    def add(self, uid: int, raw: bytes, flags: Flags, received_at: datetime) -> None:
        """Append one message."""
        self._stream.write(mailfile.mbox_text(raw, flags, received_at))

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


WRITERS: dict[Format, type[MaildirWriter] | type[EmlWriter] | type[MboxWriter]] = {
    Format.MAILDIR: MaildirWriter,
    Format.MBOX: MboxWriter,
    Format.EML: EmlWriter,
}


def export_mail(
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="A new or empty folder.")],
    account: AccountOption,
    form: Annotated[Format, typer.Option("--format", help="maildir, mbox or eml.")],
    mailbox: MailboxOption = None,
    message_id: Annotated[
        str, typer.Option("--message-id", metavar="ID", help="Only messages with this Message-ID.")
    ] = "",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Write the mail of an account into files, with flags and dates of arrival."""

    async def work(store: Access) -> tuple[int, int]:
        mail = store.mail
        owner = (await accounts.find(mail, account)).id
        if mailbox is None:
            chosen = await mailboxes.list_all(mail, owner)
        else:
            chosen = [await mailboxes.by_path(mail, owner, mailbox)]
        if destination.exists() and any(destination.iterdir()):
            raise AlreadyExists(f"{destination}: not empty")
        count = 0
        with progress_bar(sum(box.size for box in chosen), shown=not json) as progress:
            for box in chosen:
                listing = await listings.open_listing(mail, owner, box.id)
                writer = WRITERS[form](destination, box.path.split("/"))
                count += await _export(mail, listing, writer, progress, message_id)
        return count, len(chosen)

    count, boxes = run(work, data_dir=data_dir, config=config, json=json)
    show_done(
        json,
        f"{count} messages of {boxes} mailboxes exported to {destination}",
        messages=count,
        mailboxes=boxes,
        destination=str(destination),
    )


async def _export(
    mail: Mail, listing: Listing, writer: Writer, progress: Progress, message_id: str
) -> int:
    """Write one mailbox; messages that leave meanwhile are left out."""
    count = 0
    try:
        for indices in _batches(listing):
            ids = [listing.email_ids[index] for index in indices]
            found = await messages.emails(mail, listing.account, ids, header=bool(message_id))
            if message_id:
                found = {id: email for id, email in found.items() if _is(email, message_id)}
            blobs = [email.blob_id for email in found.values()]
            bodies = await content.contents(mail, listing.account, blobs)
            for index in indices:
                email = found.get(listing.email_ids[index])  # type: ignore[call-overload]
                if email is None:
                    continue
                raw = bodies[email.blob_id]
                received_at = datetime.fromtimestamp(listing.received[index] / 1000, UTC)
                writer.add(listing.uids[index], raw, listing.flags_of(index), received_at)
                progress.advance(len(raw))
                count += 1
    finally:
        writer.close()
    return count


def _is(email: Email, message_id: str) -> bool:
    """Tell whether an email has a Message-ID, given with or without its angles."""
    field = unfold(header_fields(email.header, ["Message-ID"])).partition(b":")[2]
    return field.strip().strip(b"<>") == message_id.strip().strip("<>").encode()


def _batches(listing: Listing) -> Iterator[list[int]]:
    batch: list[int] = []
    octets = 0
    for index, size in enumerate(listing.sizes):
        if batch and (len(batch) == BATCH or octets + size > BATCH_BYTES):
            yield batch
            batch, octets = [], 0
        batch.append(index)
        octets += size
    if batch:
        yield batch


def _write(part: Path, whole: Path, raw: bytes, received_at: datetime) -> None:
    part.write_bytes(raw)
    when = received_at.timestamp()
    os.utime(part, (when, when))
    part.rename(whole)
