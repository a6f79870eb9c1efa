import asyncio
import stat
from pathlib import Path

import pytest

from mailserver.app.presence import Presence, find, write_private
from mailserver.errors import InUse, Unavailable


async def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = Presence(tmp_path), Presence(tmp_path)
    await first.claim()
    with pytest.raises(InUse, match="in use by process"):
        await second.claim(patience=0)
    waiting = asyncio.ensure_future(second.claim(patience=30))
    await asyncio.sleep(0)
    first.release()
    await waiting
    second.release()
    second.release()


async def test_the_document_is_believed_while_its_writer_lives(tmp_path: Path) -> None:
    presence = Presence(tmp_path / "new")
    assert await find(tmp_path / "new") is None
    await presence.claim()
    with pytest.raises(Unavailable, match="nothing serves there yet"):
        await find(tmp_path / "new", patience=0)
    presence.publish({"pid": 1})
    assert await find(tmp_path / "new") == {"pid": 1}
    stale = (tmp_path / "new" / "dev.json").read_bytes()
    presence.release()
    assert await find(tmp_path / "new") is None
    (tmp_path / "new" / "dev.json").write_bytes(stale)
    assert await find(tmp_path / "new") is None


def test_private_files_are_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("old")
    file.chmod(0o644)
    write_private(file, b"new")
    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(FileNotFoundError):
        write_private(tmp_path / "none" / "secret", b"new")
