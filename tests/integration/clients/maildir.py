"""Maildirs as mail programs keep them, to be compared with what the server has."""

import itertools
from pathlib import Path

from mailserver.mail.context import Mail
from mailserver.model import Account
from tests.integration.clients import account as accounts

FLAGS = {
    "S": "\\Seen",
    "R": "\\Answered",
    "F": "\\Flagged",
    "D": "\\Draft",
    "T": "\\Deleted",
    "P": "$Forwarded",
}
WRITTEN = b"Subject: written here\nFrom: alice@example.test\n\nbody\n"
LATE = b"Subject: late\r\n\r\nlate\r\n"
Folders = dict[str, set[tuple[bytes, frozenset[str]]]]  # messages and their flags by path


def mails(folder: Path) -> list[Path]:
    """Return the files of a folder's messages."""
    return sorted(itertools.chain((folder / "cur").iterdir(), (folder / "new").iterdir()))


def mark(mail: Path, letters: str) -> None:
    """Give a message these flags and no others, as a mail reader does."""
    mail.rename(mail.parent.parent / "cur" / f"{mail.name.partition(':')[0]}:2,{letters}")


def add(folder: Path, raw: bytes) -> None:
    """Put a message into a folder, which is made when it is not there."""
    for place in ("new", "cur", "tmp"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / "new" / "1.added").write_bytes(raw)


def contents(root: Path) -> Folders:
    """Return what is in the folders below one."""
    return {
        str(cur.parent.relative_to(root)): {
            (accounts.unmarked(mail.read_bytes()), _flags(mail)) for mail in mails(cur.parent)
        }
        for cur in root.rglob("cur")
    }


def _flags(mail: Path) -> frozenset[str]:
    return frozenset(FLAGS[letter] for letter in mail.name.partition(":2,")[2])


async def of_server(mail: Mail, account: Account, letters: str) -> Folders:
    """Return what the server has, with those flags that the letters stand for."""
    shown = frozenset(FLAGS[letter] for letter in letters)
    return {
        path: {(each.raw, each.flags & shown) for each in found}
        for path, found in (await accounts.everything(mail, account)).items()
    }


async def change_both_sides(mail: Mail, account: Account, root: Path, made: str) -> None:
    """Here: read one, delete one, add one, make a folder; there: one more arrives."""
    unread, doomed, *_ = (
        each for each in mails(root / "INBOX") if "S" not in each.name.partition(":2,")[2]
    )
    mark(unread, "FS")
    doomed.unlink()
    add(root / "INBOX", WRITTEN)
    add(root / made, WRITTEN)
    await accounts.put(mail, account, "INBOX", LATE)


def check_both_sides(before: Folders, here: Folders, there: Folders) -> None:
    """Check that both sides have what `change_both_sides` did, and the same."""
    assert here == there
    shown = {"\\Seen", "\\Flagged"}
    unread = sorted(raw for raw, flags in before["INBOX"] if "\\Seen" not in flags)
    left = {raw for raw, _ in there["INBOX"]}
    assert len([raw for raw in unread if raw not in left]) == 1
    assert len({raw for raw, flags in there["INBOX"] if flags >= shown and raw in unread}) == 1
    assert {WRITTEN, LATE.replace(b"\r\n", b"\n")} <= left
    assert WRITTEN in {raw for raw, _ in there["Neue Ä Kiste"]}
