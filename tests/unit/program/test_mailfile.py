import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserver.cli import mailfile
from mailserver.cli.exporting import EmlWriter, MaildirWriter, MboxWriter, Writer
from mailserver.cli.mailfile import Dates, Item, TooLong
from mailserver.errors import Invalid
from mailserver.model import Flags

LIMIT = 1 << 20
WHEN = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)


def items(path: Path, dates: Dates = Dates.FILE) -> list[Item]:
    found = list(mailfile.read(path, LIMIT, dates))
    assert all(isinstance(entry, Item) for entry in found)
    return [entry for entry in found if isinstance(entry, Item)]


def mbox(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "mbox"
    path.write_bytes(content)
    return path


def test_mbox_messages_with_dates_and_flags(tmp_path: Path) -> None:
    path = mbox(
        tmp_path,
        b"From carol@example.org Sun Mar  1 12:30:15 2026\n"
        b"Subject: one\nStatus: RO\nX-Status: AF\nX-Keywords: work $Forwarded\n\n"
        b"line\n>From the start\n>>From twice\nFrom here no date\n\n"
        b"From dave@example.org Sun Mar  1 13:30:15 2026 +0100\n"
        b"Subject: two\nX-Mozilla-Status: 0005\n\nbody\n",
    )
    one, two = items(path)
    assert one.raw == (
        b"Subject: one\r\nStatus: RO\r\nX-Status: AF\r\nX-Keywords: work $Forwarded\r\n\r\n"
        b"line\r\nFrom the start\r\n>From twice\r\nFrom here no date\r\n"
    )
    assert one.received_at == WHEN
    assert one.flags == Flags.of(["\\Seen", "\\Answered", "\\Flagged", "$Forwarded", "work"])
    assert two.raw == b"Subject: two\r\nX-Mozilla-Status: 0005\r\n\r\nbody\r\n"
    assert two.received_at == WHEN
    assert two.flags == Flags.of(["\\Seen", "\\Flagged"])


def test_mbox_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="not an mbox"):
        items(mbox(tmp_path, b"Subject: x\n\nFrom here\n"))
    assert items(mbox(tmp_path, b"")) == []


def test_message_over_the_limit_is_passed_over_and_the_next_is_read(tmp_path: Path) -> None:
    line = b"From a Sun Mar  1 12:30:15 2026\n"
    path = mbox(tmp_path, line + b"x" * 5000 + b"\n\n" + line + b"Subject: y\n\nz\n")
    first, second = mailfile.read(path, 1000)
    assert isinstance(first, TooLong)
    assert first.size > 5000
    assert isinstance(second, Item)
    assert second.raw == b"Subject: y\r\n\r\nz\r\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"From a@b Thu Jan  1 00:00:00 2026", datetime(2026, 1, 1, tzinfo=UTC)),
        (b"From a@b Thu Jan 01 00:00 2026", datetime(2026, 1, 1, tzinfo=UTC)),
        (b"From a@b Thu Jan  1 00:00:00 UTC 2026", datetime(2026, 1, 1, tzinfo=UTC)),
        (b"From - Thu Jan  1 00:00:60 2026", datetime(2026, 1, 1, 0, 0, 59, tzinfo=UTC)),
        (b"From a Thu Jan  1 02:00:00 2026 +0200", datetime(2026, 1, 1, tzinfo=UTC)),
        (b"From a Thu Jan 41 02:00:00 2026", None),
        (b"From a Thu Foo  1 02:00:00 2026", None),
        (b"From a@b", None),
    ],
)
def test_dates_of_from_lines(line: bytes, expected: datetime | None) -> None:
    assert mailfile.from_line_date(line) == expected


def test_date_of_the_header() -> None:
    newest = b"Received: from a by b;\r\n Sun, 1 Mar 2026 13:30:15 +0100\r\n"
    older = b"Received: from c by a; Sat, 28 Feb 2026 01:00:00 +0000\r\n"
    date = b"Date: Fri, 27 Feb 2026 00:00:00 +0000\r\n"
    assert mailfile.header_date(newest + older + date + b"\r\n") == WHEN
    assert mailfile.header_date(date + b"\r\n") == datetime(2026, 2, 27, tzinfo=UTC)
    assert mailfile.header_date(b"Subject: x\r\n\r\nDate: Fri, 27 Feb 2026 00:00:00 +0000") is None
    assert mailfile.header_date(b"Date: never\r\n\r\n") is None


def test_maildir_with_folders_flags_and_keywords(tmp_path: Path) -> None:
    for folder in ("cur", "new", ".Work.2026/cur", ".D&AOk-p&AC4-1/new", ".D&AOk-p&AC4-1/cur"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "dovecot-keywords").write_text("0 work\n1 later\n")
    (tmp_path / "cur/1.x:2,FSab").write_bytes(b"Subject: 1\n\n")
    (tmp_path / "new/2.x").write_bytes(b"Subject: 2\n\n")
    (tmp_path / ".Work.2026/cur/3.x:2,DPRT").write_bytes(b"Subject: 3\n\n")
    (tmp_path / ".D&AOk-p&AC4-1/new/4.x").write_bytes(b"Subject: 4\r\n\r\n")
    os.utime(tmp_path / "cur/1.x:2,FSab", (WHEN.timestamp(), WHEN.timestamp()))
    by_subject = {item.raw[9:10]: item for item in items(tmp_path)}
    assert by_subject[b"1"].flags == Flags.of(["\\Flagged", "\\Seen", "work", "later"])
    assert by_subject[b"1"].received_at == WHEN
    assert by_subject[b"2"].flags == Flags()
    assert by_subject[b"3"].folder == ("Work", "2026")
    assert by_subject[b"3"].flags == Flags.of(["\\Draft", "$Forwarded", "\\Answered", "\\Deleted"])
    assert by_subject[b"4"].folder == ("Dép.1",)
    assert by_subject[b"4"].raw == b"Subject: 4\r\n\r\n"


FOLDERS = st.lists(
    st.one_of(
        st.sampled_from(["INBOX", "Work", "Dép.1", "..", ".x", "a%2Eb", "a&b", "日本", "a:b*"]),
        st.text(
            st.characters(blacklist_categories=["C"], blacklist_characters="/"),
            min_size=1,
            max_size=20,
        ),
    ),
    min_size=1,
    max_size=3,
)


@given(FOLDERS)
def test_names_of_folders_come_back(folder: list[str]) -> None:
    assert mailfile.from_maildir_name(mailfile.to_maildir_name(folder)) == tuple(folder)
    for part in folder:
        name = mailfile.to_file_name(part)
        assert not name.startswith(".")
        assert "/" not in name
        assert mailfile.from_file_name(name) == part


LINES = st.sampled_from(
    [
        b"Subject: x",
        b"",
        b"From me",
        b">From me",
        b">>From me Sun Mar  1 12:30:15 2026",
        b"body",
        b"From carol@example.org Sun Mar  1 12:30:15 2026",
        b"Status: RO",
        b"\xff\x00\x80",
        b"X-Status: F",
    ]
)
ENDED_BY_CRLF = st.lists(LINES, max_size=12).map(lambda lines: b"\r\n".join([*lines, b""]))
MIXED = st.lists(st.tuples(LINES, st.sampled_from([b"\r\n", b"\n", b"\r"])), max_size=12).map(
    lambda lines: b"".join(line + end for line, end in lines) + b"x\r\n"
)
FLAGS = st.sets(
    st.sampled_from(
        ["\\Seen", "\\Answered", "\\Flagged", "\\Draft", "\\Deleted", "$Forwarded", "$Junk", "work"]
    )
).map(Flags.of)
MESSAGES = st.lists(
    st.tuples(st.one_of(ENDED_BY_CRLF, MIXED), FLAGS, st.integers(10**9, 2 * 10**9)), max_size=6
)


@pytest.mark.parametrize("kind", [MaildirWriter, MboxWriter, EmlWriter])
@settings(max_examples=60)
@given(messages=MESSAGES)
def test_what_is_exported_is_imported_again(
    tmp_path_factory: pytest.TempPathFactory,
    kind: type[MaildirWriter] | type[MboxWriter] | type[EmlWriter],
    messages: list[tuple[bytes, Flags, int]],
) -> None:
    top = tmp_path_factory.mktemp("export") / "out"
    writer: Writer = kind(top, ("Work", "2026"))
    for uid, (raw, flags, seconds) in enumerate(messages, 1):
        writer.add(uid, raw, flags, datetime.fromtimestamp(seconds, UTC))
    writer.close()
    found = items(top)
    assert [(item.raw, item.flags) for item in found] == [
        (raw, flags) for raw, flags, _ in messages
    ]
    assert [item.received_at for item in found] == [
        datetime.fromtimestamp(seconds, UTC) for _, _, seconds in messages
    ]
    assert all(item.folder == ("Work", "2026") for item in found)
    assert ("Work", "2026") in mailfile.folders(top)
