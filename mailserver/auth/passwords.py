"""Password hashes: argon2id, computed in a bounded thread pool.

A hash takes about 15 ms and 19 MiB, so the pool bounds both: however many clients log in at once,
the event loop goes on and no more than `threads` hashes are in memory.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from mailserver.auth.scram import SALT_LENGTH, Keys
from mailserver.errors import Invalid

TIME_COST = 2  # passes
MEMORY_COST = 19456  # KiB
PARALLELISM = 1
MAX_LENGTH = 1024  # octets of a password; longer ones are never right
# Nobody's password: verified in place of a missing hash, so that an unknown login takes as long.
_DUMMY = (
    "$argon2id$v=19$m=19456,t=2,p=1$Zm9yIG5vYm9keSBhdCBhbA"
    "$3kQtrqzjDq2mzHgkZP8m3tW0k0n1rCJ8kGq3YzvYv7o"
)


class Passwords:
    """Makes and checks password hashes without blocking the event loop."""

    def __init__(self, threads: int = 2) -> None:
        self._hasher = PasswordHasher(TIME_COST, MEMORY_COST, PARALLELISM, type=Type.ID)
        self._pool = ThreadPoolExecutor(threads, "password")

    async def hash(self, password: str) -> str:
        """Return the hash to store, in the PHC string format."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Tell whether the password has that hash; no hash costs the same time and is False."""
        if len(password.encode("utf-8", "surrogatepass")) > MAX_LENGTH:
            return False
        loop = asyncio.get_running_loop()
        matches = await loop.run_in_executor(self._pool, self._verify, stored or _DUMMY, password)
        return matches and stored is not None

    async def scram_keys(self, password: str) -> str | None:
        """Return the SCRAM keys to store; None for a password that SCRAM cannot be used with."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _scram_keys, password)

    def needs_rehash(self, stored: str) -> bool:
        """Tell whether the hash was made with other parameters than those in use now."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False


def _scram_keys(password: str) -> str | None:
    try:
        return Keys.derive(password, os.urandom(SALT_LENGTH)).text()
    except (Invalid, UnicodeEncodeError):
        return None
