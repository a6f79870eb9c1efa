"""Patches of emails: keywords and mailboxes are all that changes of one (RFC 8621 §4.6)."""

from collections.abc import Mapping

from mailserver.jmap.protocol import records
from mailserver.jmap.protocol.errors import SetError, invalid_properties
from mailserver.jmap.protocol.keywords import keyword, keywords, mailbox_id, mailbox_ids
from mailserver.jmap.protocol.properties import WrongType
from mailserver.jmap.protocol.records import Pointer, Resolve
from mailserver.mail.email_edits import Edit
from mailserver.model import Flags, MailboxId


class Patch:
    """A patch as it is read, path by path."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._flags: Flags | None = None
        self._mailboxes: frozenset[MailboxId] | None = None
        self._keywords: dict[str, bool] = {}
        self._places: dict[MailboxId, bool] = {}
        self.others: dict[Pointer, object] = {}  # what it says of properties that never change

    def read(self, patch: Mapping[str, object]) -> Edit:
        """Return what a patch changes."""
        for pointer, value in records.pointers(patch).items():
            name, *inner = pointer
            if name not in ("keywords", "mailboxIds"):
                self.others[pointer] = value
                continue
            if len(inner) > 1:  # what is below a keyword or a mailbox is true
                raise SetError("invalidPatch", f"{name} has no such path")
            try:
                if name == "keywords":
                    self._read_keywords(inner, value)
                else:
                    self._read_mailboxes(inner, value)
            except WrongType as error:
                raise invalid_properties([name], f"{name} must be {error}") from None
        return self._edit()

    def _read_keywords(self, inner: list[str], value: object) -> None:
        if inner:
            self._keywords[keyword(inner[0])] = _set_or_removed(value)
        else:
            self._flags = Flags() if value is None else keywords(value)

    def _read_mailboxes(self, inner: list[str], value: object) -> None:
        if inner:
            self._places[mailbox_id(self._known(inner[0]))] = _set_or_removed(value)
        elif isinstance(value, dict):
            self._mailboxes = mailbox_ids({self._known(each): value[each] for each in value})
        else:
            self._mailboxes = mailbox_ids(value)

    def _known(self, text: str) -> str:
        found = self._resolve(text)
        if found is None:
            raise WrongType("a map of mailboxes that exist")
        return found

    def _edit(self) -> Edit:
        return Edit(
            flags=self._flags,
            add=Flags.of_keywords(each for each, there in self._keywords.items() if there),
            remove=Flags.of_keywords(each for each, there in self._keywords.items() if not there),
            mailboxes=self._mailboxes,
            into=frozenset(each for each, there in self._places.items() if there),
            out_of=frozenset(each for each, there in self._places.items() if not there),
        )


def _set_or_removed(value: object) -> bool:
    if value is not None and value is not True:
        raise WrongType("a map whose values are true")
    return value is True


def check_unchanged(others: Mapping[Pointer, object], current: Mapping[str, object]) -> None:
    """Refuse new values of properties that never change; those they have may be in a patch."""
    wrong = []
    for (name, *inner), value in others.items():
        if name not in current:
            if inner:
                raise SetError("invalidPatch", f"there is no property {name[:50]!r}")
            wrong.append(name)
            continue
        there: object = current[name]
        for token in inner[:-1]:
            there = there.get(token) if isinstance(there, dict) else None
        if inner:
            if not isinstance(there, dict):
                raise SetError("invalidPatch", f"{name} has no such path")
            there = there.get(inner[-1])
        if there != value:
            wrong.append(name)
    if wrong:
        raise invalid_properties(list(dict.fromkeys(wrong)), "an email never changes in that")
