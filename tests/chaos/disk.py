"""A disk whose power can be cut: a file system on a loop device.

A cut is made in two steps. First the file system is told to shut down without writing anything that
it has only in memory, neither pages nor journal (`FS_IOC_SHUTDOWN`, made for tests of this kind):
from that instant on nothing comes from it any more. Then the image is copied as the device has it
now, everything that used the disk is killed, and the copy is mounted: as after a power cut the
journal is replayed, and what was only written but never synced is gone, or there in part.

What this does not take away is what the file system gave to the device without asking for a flush:
it is a disk whose own cache survives. That a sync of ours comes with a flush is for the file system
to see to; `flushes` counts that it does. The kernel may write back any file at any time, and within
the seconds of a test hardly does, so `write_back` does it for a file that chance picks: only so is
a newer file on the disk and an older one not.
"""

import contextlib
import fcntl
import os
import random
import re
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest

SIZE = 3 << 30  # octets of the image, which has holes
NAME = "mailserver-power-cut"  # with the pid of the test: how leftovers are recognised
SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN, of ext4 and XFS
NO_LOG_FLUSH = 2
UNMOUNT_TIME = 30.0  # seconds until the last who used it is gone
PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Disk:
    """A file system of its own at `place`, until `close`."""

    def __init__(self, directory: Path, kind: str = "ext4") -> None:
        """Make and mount it; skip the test where that is not allowed."""
        self.place = directory / f"{NAME}-{os.getpid()}"
        self._directory = directory
        self._count = 0
        remove_leftovers()
        if os.geteuid() != 0:
            pytest.skip("a loop device takes root")
        program = shutil.which(f"mkfs.{kind}", path=PATHS)
        if program is None:
            pytest.skip(f"mkfs.{kind} is not installed")
        with self._image.open("wb") as file:
            file.truncate(SIZE)
        subprocess.run([program, "-q", str(self._image)], check=True, capture_output=True)
        self.place.mkdir()
        mounted = self._mount()
        if mounted.returncode != 0:
            pytest.skip(f"no loop device can be mounted here: {mounted.stderr.strip()}")

    @property
    def _image(self) -> Path:
        return self._directory / f"image-{self._count}"

    def _mount(self) -> "subprocess.CompletedProcess[str]":
        # by `-o loop` the device goes with the last who uses the file system
        return subprocess.run(
            ["mount", "-o", "loop", str(self._image), str(self.place)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def stop(self) -> None:
        """Let nothing more get onto the disk; whoever writes or syncs gets an error."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def power_on(self) -> None:
        """Mount what the stopped disk had; nobody may use it any more."""
        before = self._image
        self._count += 1
        subprocess.run(["cp", "--sparse=always", str(before), str(self._image)], check=True)
        unmount(self.place)
        before.unlink()
        mounted = self._mount()
        assert mounted.returncode == 0, mounted.stderr

    def write_back(self, chance: random.Random) -> None:
        """Write one file to the disk, as the kernel may at any time."""
        files = [path for path in self.place.rglob("*") if path.is_file()]
        with contextlib.suppress(OSError):  # it has gone since
            descriptor = os.open(chance.choice(files), os.O_RDONLY)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)

    def flushes(self) -> int:
        """Return how often the device was told to flush its cache."""
        device = os.stat(self.place).st_dev
        numbers = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text()
        return int(numbers.split()[15])

    def close(self) -> None:
        """Unmount it and remove the image."""
        unmount(self.place)
        self._image.unlink()


def unmount(place: Path) -> None:
    """Unmount a file system once nobody uses it."""
    deadline = time.monotonic() + UNMOUNT_TIME
    while True:
        done = subprocess.run(["umount", str(place)], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.1)  # nothing announces that it could be unmounted


def remove_leftovers() -> None:
    """Unmount what tests left that were killed; their loop devices go with it."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place = line.split()[4]
        found = re.search(rf"/{NAME}-(\d+)$", place)
        if found is not None and not Path(f"/proc/{found[1]}").exists():
            subprocess.run(["umount", "--lazy", place], check=True)
