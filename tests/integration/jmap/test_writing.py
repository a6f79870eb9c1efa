"""Writing where there is no room, and beside others who write."""

import asyncio
from typing import Any

import pytest

from mailserver.errors import OverQuota, Unavailable
from mailserver.jmap.methods.email_create import BATCH_OCTETS, Arriving, Stores
from mailserver.jmap.protocol.errors import MethodError
from mailserver.jmap.protocol.ids import account_text, blob_text
from mailserver.mail import mailboxes, uploads
from mailserver.mail.context import Mail
from mailserver.model import Account, Flags, IdKind, MailboxId, id_text
from tests.integration.jmap.test_any_arguments import new_session, run


async def inbox_of(mail: Mail, account: Account) -> str:
    inbox = await mailboxes.by_path(mail, account.id, "INBOX")
    return id_text(IdKind.MAILBOX, inbox.id)


def draft(place: str, text: str = "text") -> dict[str, Any]:
    return {
        "mailboxIds": {place: True},
        "textBody": [{"partId": "t"}],
        "bodyValues": {"t": {"value": text}},
    }


async def test_what_has_no_room_is_over_quota(mail: Mail, alice: Account) -> None:
    account, place = account_text(alice.id), await inbox_of(mail, alice)
    blob = blob_text(await uploads.store(mail, alice.id, b"Subject: x\r\n\r\n" + b"x" * 400))
    await mail.database.execute("UPDATE account SET quota_limit = 500 WHERE id = $1", alice.id)
    given = {"blobId": blob, "mailboxIds": {place: True}}
    answers = await run(
        new_session(mail, alice),
        ["Email/set", {"accountId": account, "create": {
            "small": draft(place), "large": draft(place, "x" * 1000)}}, "0"],
        ["Email/import", {"accountId": account, "emails": {"i": given}}, "1"],
    )  # fmt: skip
    assert answers[0][1]["created"].keys() == {"small"}
    assert answers[0][1]["notCreated"] == {"large": {"type": "overQuota"}}
    assert answers[1][1]["notCreated"] == {"i": {"type": "overQuota"}}


async def test_an_account_has_a_bounded_number_of_mailboxes(mail: Mail, alice: Account) -> None:
    account = account_text(alice.id)
    (spare,) = await mailboxes.create(mail, alice.id, "Spare")
    count = len(await mailboxes.list_all(mail, alice.id))
    await mail.database.execute(
        """
        INSERT INTO mailbox (account_id, id, name, modseq)
        SELECT $1, number, 'Box ' || number, 1
        FROM generate_series(1, $2::int) AS number
        """,
        alice.id,
        mailboxes.MAX_MAILBOXES - count - 1,
    )

    async def create(names: str, **more: Any) -> Any:
        wanted = {each: {"name": each} for each in names}
        arguments = {"accountId": account, "create": wanted, **more}
        ((_, answer, _),) = await run(new_session(mail, alice), ["Mailbox/set", arguments, "0"])
        return answer

    with pytest.raises(OverQuota):  # a parent counts
        await mailboxes.create(mail, alice.id, "a/b")
    answer = await create("ab")
    assert list(answer["created"]) == ["a"]
    assert answer["notCreated"] == {"b": {"type": "overQuota"}}
    assert (await create("c"))["notCreated"] == {"c": {"type": "overQuota"}}
    with pytest.raises(OverQuota):
        await mailboxes.create(mail, alice.id, "c")
    with pytest.raises(OverQuota):
        await mailboxes.rename(mail, alice.id, spare.id, "d/Spare")
    assert (await mailboxes.rename(mail, alice.id, spare.id, "Other")).name == "Other"
    answer = await create("c", destroy=[id_text(IdKind.MAILBOX, spare.id)])
    assert list(answer["created"]) == ["c"]
    assert len(await mailboxes.list_all(mail, alice.id)) == mailboxes.MAX_MAILBOXES


async def test_writers_at_the_same_time_know_all_states(mail: Mail, alice: Account) -> None:
    """Whoever follows the states of its own calls learns of every change of the others."""
    account, place = account_text(alice.id), await inbox_of(mail, alice)

    async def write(number: int) -> tuple[str, str, set[str]]:
        create = {f"{number}-{each}": draft(place, f"{number} {each}") for each in range(4)}
        arguments = {"accountId": account, "create": create}
        ((_, answer, _),) = await run(new_session(mail, alice), ["Email/set", arguments, "0"])
        made = {each["id"] for each in answer["created"].values()}
        return answer["oldState"], answer["newState"], made

    written = await asyncio.gather(*map(write, range(6)))
    everything = set().union(*(made for _, _, made in written))
    assert len(everything) == 24
    for old_state, new_state, made in written:
        known = made | await created_since(mail, alice, new_state)
        assert known >= await created_since(mail, alice, old_state)
    assert await created_since(mail, alice, "0") == everything


async def created_since(mail: Mail, alice: Account, state: str) -> set[str]:
    asked = {"accountId": account_text(alice.id), "sinceState": state, "maxChanges": 500}
    ((_, answer, _),) = await run(new_session(mail, alice), ["Email/changes", asked, "0"])
    return set(answer["created"])


async def test_the_new_state_stops_before_the_change_of_another(mail: Mail, alice: Account) -> None:
    session = new_session(mail, alice)
    session.modseq = 10
    assert await session.advanced({11, 12, 14}) == "12"
    session.modseq = 10
    assert await session.advanced({12}) == "10"
    assert await session.state() == "10"


async def test_hundreds_of_changes_are_one_state(mail: Mail, alice: Account) -> None:
    account, place = account_text(alice.id), await inbox_of(mail, alice)
    create = {f"c{number}": draft(place, str(number)) for number in range(100)}
    ((_, answer, _),) = await run(
        new_session(mail, alice), ["Email/set", {"accountId": account, "create": create}, "0"]
    )
    ids = [each["id"] for each in answer["created"].values()]
    update = {each: {"keywords/$seen": True, "keywords/x": True} for each in ids}
    answers = await run(
        new_session(mail, alice),
        ["Email/set", {"accountId": account, "update": update}, "0"],
        ["Email/set", {"accountId": account, "destroy": ids}, "1"],
    )
    states = [(int(each["oldState"]), int(each["newState"])) for _, each, _ in answers]
    assert [new - old for old, new in states] == [1, 1]
    assert set(answers[1][1]["destroyed"]) == set(ids)


async def test_a_failure_says_whether_something_was_done(mail: Mail, alice: Account) -> None:
    place = MailboxId((await mailboxes.by_path(mail, alice.id, "INBOX")).id)
    session = new_session(mail, alice)

    async def fail_after(messages: int) -> set[int]:
        modseqs: set[int] = set()
        async with Stores(session, modseqs) as stores:
            for number in range(messages):
                raw = b"Subject: %d\r\n\r\n" % number + b"x" * BATCH_OCTETS
                await stores.add(str(number), Arriving(raw, [place], Flags(), mail.now()))
            raise Unavailable("S3")
        return modseqs

    with pytest.raises(Unavailable):
        await fail_after(0)
    with pytest.raises(MethodError) as caught:
        await fail_after(1)
    assert caught.value.kind == "serverPartialFail"
