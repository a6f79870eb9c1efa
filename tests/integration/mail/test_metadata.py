"""Annotations: what an account may keep, and that it is all or nothing."""

import pytest

from mailserver.errors import Forbidden, NotFound, TooLarge, TooMany
from mailserver.mail import mailboxes, metadata
from mailserver.mail.context import Mail
from mailserver.model import Account


async def test_limits(mail: Mail, alice: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = b"x" * metadata.MAX_VALUE
    inbox = (await mailboxes.by_path(mail, alice.id, "INBOX")).id
    sent = (await mailboxes.by_path(mail, alice.id, "Sent")).id
    await metadata.put(mail, alice.id, alice.id, inbox, {"/private/a": largest})
    with pytest.raises(TooLarge):
        await metadata.put(
            mail, alice.id, alice.id, inbox, {"/private/b": b"", "/private/a": largest + b"x"}
        )
    assert await metadata.get(mail, alice.id, alice.id, inbox) == {"/private/a": largest}

    full = {f"/private/{number}": b"" for number in range(metadata.MAX_ENTRIES - 1)}
    await metadata.put(mail, alice.id, alice.id, inbox, full)
    with pytest.raises(TooMany):
        await metadata.put(
            mail, alice.id, alice.id, inbox, {"/private/a": b"y", "/private/more": b""}
        )
    assert (await metadata.get(mail, alice.id, alice.id, inbox))["/private/a"] == largest
    # one goes and one comes
    await metadata.put(mail, alice.id, alice.id, inbox, {"/private/a": None, "/private/more": b""})

    await metadata.put(mail, alice.id, alice.id, sent, {"/private/a": b"12345"})
    monkeypatch.setattr(metadata, "MAX_OCTETS", 9)
    with pytest.raises(TooMany):
        await metadata.put(mail, alice.id, alice.id, sent, {"/private/b": b"67890"})
    await metadata.put(mail, alice.id, alice.id, sent, {"/private/b": b"6789"})
    await metadata.put(mail, alice.id, alice.id, sent, {"/private/a": None, "/private/b": None})
    monkeypatch.setattr(metadata, "MAX_TOTAL", metadata.MAX_ENTRIES + 1)
    await metadata.put(mail, alice.id, alice.id, None, {"/private/a": b""})
    with pytest.raises(TooMany):
        await metadata.put(mail, alice.id, alice.id, sent, {"/private/a": b""})


async def test_whose_they_are(mail: Mail, alice: Account, bob: Account) -> None:
    inbox = await mailboxes.by_path(mail, alice.id, "INBOX")
    await metadata.put(mail, alice.id, alice.id, None, {"/private/a": b"1"})
    await metadata.put(mail, alice.id, alice.id, inbox.id, {"/shared/a": b"2"})
    assert await metadata.get(mail, alice.id, alice.id, None) == {"/private/a": b"1"}
    assert await metadata.get(mail, bob.id, bob.id, None) == {}
    assert await metadata.get(mail, bob.id, bob.id, inbox.id) == {}
    found = await metadata.of_all_mailboxes(mail, alice.id, [alice.id], ["/shared/a", "/private/a"])
    assert found == {inbox.id: {"/shared/a": b"2"}}
    with pytest.raises(Forbidden):
        await metadata.put(mail, alice.id, alice.id, None, {"/shared/a": b""})
    with pytest.raises(NotFound):
        await metadata.put(mail, bob.id, bob.id, inbox.id, {"/shared/a": b""})


async def test_renaming_inbox_keeps_the_limits(
    mail: Mail, alice: Account, bob: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = (await mailboxes.by_path(mail, alice.id, "INBOX")).id
    await metadata.put(mail, alice.id, alice.id, inbox, {"/private/a": b"12345"})
    await metadata.put(mail, bob.id, alice.id, inbox, {"/private/a": b"of bob"})
    monkeypatch.setattr(metadata, "MAX_OCTETS", 10)
    made = await mailboxes.rename(mail, alice.id, inbox, "old")
    assert await metadata.get(mail, alice.id, alice.id, made.id) == {"/private/a": b"12345"}
    # what is another's own is counted there, and stays where it was put
    assert await metadata.get(mail, bob.id, alice.id, made.id) == {}
    assert await metadata.get(mail, bob.id, alice.id, inbox) == {"/private/a": b"of bob"}
    with pytest.raises(TooMany):
        await mailboxes.rename(mail, alice.id, inbox, "older")
    monkeypatch.setattr(metadata, "MAX_OCTETS", 15)
    monkeypatch.setattr(metadata, "MAX_TOTAL", 2)
    with pytest.raises(TooMany):
        await mailboxes.rename(mail, alice.id, inbox, "older")
    with pytest.raises(NotFound):
        await mailboxes.by_path(mail, alice.id, "older")
