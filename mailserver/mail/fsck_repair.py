"""Sets right what `mail.fsck` finds, as far as it follows from something that is still there."""

import hashlib
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING

from mailserver.errors import Corrupt, NotFound
from mailserver.mail import fsck
from mailserver.mail.context import Change
from mailserver.mail.fsck import Difference
from mailserver.model import AccountId, BlobId, ChangeKind, IdKind, id_value
from mailserver.storage import accounts, bodies, fsck_repair
from mailserver.storage.bodies import Location
from mailserver.storage.compression import decompress
from mailserver.storage.fsck_repair import REPAIRS, Repair

if TYPE_CHECKING:
    from mailserver.mail.context import Mail

_ACCOUNT = re.compile(r"\baccount (\d+)")  # as every detail of `storage.fsck` names it
_OBJECT = re.compile(r"(?P<account>[^/]+)/(?P<blob>[0-9a-f]{64})-[^/]+\Z")


async def repair(
    mail: "Mail", *, objects: bool = True, settled: timedelta = timedelta(0)
) -> AsyncIterator[Difference]:
    """Set right what can be, and give what was; what a later check still finds cannot be.

    Counters are recounted, the index of words is made anew where it is wrong, an object that a row
    wants and S3 lacks is copied again from PostgreSQL, and objects without a row become blobs that
    nothing refers to, which the collector deletes after the grace time.
    """
    broken: dict[AccountId, dict[str, list[str]]] = {}
    async for difference in fsck.check(mail, objects=False):
        named = _ACCOUNT.search(difference.detail)
        if named is not None:
            rules = broken.setdefault(AccountId(int(named[1])), {})
            rules.setdefault(difference.rule, []).append(difference.detail)
    for account, found in broken.items():
        wanted = [each for each in REPAIRS if each.rule in found]
        if wanted and await _recount(mail, account, wanted):
            for each in wanted:
                for detail in found[each.rule]:
                    yield Difference(each.rule, detail)
    if objects:
        async for difference in _copy_again(mail):
            yield difference
        async for difference in _adopt(mail, settled):
            yield difference


async def renumber(mail: "Mail") -> None:
    """Let all clients load anew what they know: PostgreSQL went back in time. No server may run."""
    async with mail.database.transaction() as tx:
        await fsck_repair.renumber(tx)


async def _recount(mail: "Mail", account: AccountId, wanted: list[Repair]) -> bool:
    """Run repairs under the lock that every writer takes; False when the account is gone."""
    async with mail.database.transaction() as tx:
        if await accounts.next_modseq(tx, account) is None:  # it locks
            return False
        changed = {box for each in wanted for box in await fsck_repair.run(tx, each, account)}
        # after the repairs: where the account's had gone back, one from before them is no news
        modseq = await accounts.next_modseq(tx, account)
        assert modseq is not None
        change = Change(tx, account, modseq, mail.now())
        for mailbox in sorted(changed):
            change.report(ChangeKind.MAILBOX_UPDATED, mailbox)
        await change.write()
    mail.events.publish(account, modseq)
    return True


async def _copy_again(mail: "Mail") -> AsyncIterator[Difference]:
    """Forget objects that S3 does not have while PostgreSQL has the body: the mover makes new."""
    after = (-(2**63), b"")
    while rows := await bodies.page(mail.database, after, fsck.PAGE):
        for location, _, here in rows:
            if location.object is None or not here:
                continue
            size = await mail.blobs.size(location.object)
            if size is None or size < location.offset + location.length:
                await bodies.forget_object(mail.database, location)
                yield Difference(fsck.OBJECT_MISSING, fsck.named(location))
        after = (rows[-1][0].account_id, rows[-1][0].id)


async def _adopt(mail: "Mail", settled: timedelta) -> AsyncIterator[Difference]:
    """Give objects without a row one; remove what is no body, or one that is kept elsewhere."""
    async for name, size in fsck.objects_without_rows(mail, settled):
        match = _OBJECT.match(name)
        account = id_value(IdKind.ACCOUNT, match["account"]) if match is not None else None
        if match is None or account is None:
            continue  # not made by this server: not ours to touch
        blob = BlobId(bytes.fromhex(match["blob"]))
        content = await _body(mail, name, size)
        if content is None or hashlib.sha256(content).digest() != blob:
            await mail.blobs.delete(name)
        else:
            place = Location(AccountId(account), blob, len(content), name, 0, size)
            if not await fsck_repair.adopt_object(mail.database, place, mail.now()):
                await mail.blobs.delete(name)
        yield Difference(fsck.OBJECT_UNKNOWN, f"{name}, {size} bytes")


async def _body(mail: "Mail", name: str, size: int) -> bytes | None:
    try:
        return decompress(await mail.blobs.get(name, 0, size))
    except (NotFound, Corrupt):
        return None
