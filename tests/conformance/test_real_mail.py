"""Mail of real senders, with their keys as they were: the messages that come with mail-auth.

github.com/stalwartlabs/mail-auth, `resources`, Apache-2.0 or MIT. The first lines of each file are
the records of its keys.
"""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailserver.antispam.authentication.arc import check_arc
from mailserver.antispam.authentication.content import Content
from mailserver.antispam.authentication.dkim import check_dkim
from tests.zone import Zone

FOLDER = Path(__file__).parents[1] / "data" / "mail-auth"


@pytest.mark.parametrize(
    ("name", "date", "signatures", "arc"),
    [
        ("dkim-002", "2022-11-20", ["example.com pass"], "none"),
        ("dkim-003", "2022-11-20", ["ietf.org pass", "ietf.org pass"], "none"),
        ("dkim-005", "2022-11-08", ["topicbox.com pass"], "none"),
        ("dkim-005", "2022-11-20", ["topicbox.com fail"], "none"),  # expired
        ("dkim-006", "2022-11-20", ["github.com pass"], "none"),
        # a list that changed the body of what it passed on, and two servers that vouch for it
        (
            "arc-001",
            "2022-11-20",
            ["ietf.org pass", "ietf.org pass", "stalw.art fail"],
            "pass",
        ),
        ("arc-002", "2024-01-01", ["manchego.org pass"], "pass"),
    ],
)
async def test_signatures(name: str, date: str, signatures: list[str], arc: str) -> None:
    records, _, raw = (FOLDER / f"{name}.txt").read_bytes().partition(b"\n\n")
    zone = Zone()
    for line in records.decode().splitlines():
        owner, _, text = line.partition(" ")
        zone.add(owner, "TXT", text)
    content = Content(raw.replace(b"\n", b"\r\n"))
    now = datetime.fromisoformat(date).replace(tzinfo=UTC)
    found = await check_dkim(zone, content, now)
    assert [f"{each.domain} {each.result}" for each in found] == signatures
    assert (await check_arc(zone, content)).result == arc
