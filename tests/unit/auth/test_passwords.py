"""Password hashes."""

from argon2 import PasswordHasher

from mailserver.auth import passwords
from mailserver.auth.passwords import Passwords


async def test_a_hash_fits_its_password_only() -> None:
    pool = Passwords(1)
    stored = await pool.hash("pässword")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await pool.verify(stored, "pässword")
    assert not await pool.verify(stored, "password")
    assert not await pool.verify(None, "pässword")
    assert not await pool.verify("not a hash", "pässword")
    assert not await pool.verify(stored, "x" * 2000)
    assert not await pool.verify(stored, "\udcff")
    assert not pool.needs_rehash(stored)
    assert pool.needs_rehash(PasswordHasher(1, 8, 1).hash("x"))
    pool.close()


async def test_a_missing_hash_costs_a_real_verification() -> None:
    # the stand-in has the parameters in use, so that it takes as long as a real one
    pool = Passwords(1)
    assert not pool.needs_rehash(passwords._DUMMY)
    pool.close()
