"""Large messages on disk: what was written comes back, and the room does too."""

import tempfile

import pytest

from mailserver.errors import Unavailable
from mailserver.mail.memory import Memory
from mailserver.mail.spool import Spool


async def test_what_was_written_comes_back_and_the_room_is_given_back() -> None:
    disk = Memory(1000)
    spool = Spool(disk, 0.01)
    assert await spool.write(b"a" * 300)
    assert await spool.write(b"b" * 300)
    assert disk.free == 400
    assert await spool.read(200, 200) == b"a" * 100 + b"b" * 100
    with pytest.raises(Unavailable):
        await spool.read(500, 101)
    spool.close()
    assert disk.free == 1000
    spool.close()
    assert disk.free == 1000


async def test_clients_share_the_room() -> None:
    disk = Memory(1000)
    first, second = Spool(disk, 0.01), Spool(disk, 0.01)
    assert await first.write(b"a" * 900)
    assert not await second.write(b"b" * 200)
    first.close()
    assert await second.write(b"b" * 200)
    second.close()
    assert disk.free == 1000


async def test_a_disk_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    disk = Memory(1000)
    spool = Spool(disk, 0.01)
    assert not await spool.write(b"a" * 300)
    spool.close()
    assert disk.free == 1000
