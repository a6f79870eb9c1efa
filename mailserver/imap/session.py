"""One connection's state: who, which mailbox, what the client was told, what goes out next."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Flag, auto
from typing import NamedTuple

from mailserver.auth.credentials import Authenticator
from mailserver.errors import NotFound
from mailserver.imap.channel import Channel
from mailserver.imap.clients import Clients
from mailserver.imap.protocol import flags
from mailserver.imap.protocol.listing import List
from mailserver.imap.protocol.responses import mailbox_name, status_line
from mailserver.imap.protocol.sequences import compact
from mailserver.imap.selected import EVERYTHING, Hears, Refused, Selected, Watcher
from mailserver.mail import access, listings, mailboxes
from mailserver.mail.context import Mail
from mailserver.model import AccountId, Principal, Right, Tree

CHUNK = 256 * 1024  # octets that are written before the session waits for the client to read


class State(Flag):
    """Where a connection stands (RFC 9051 §3)."""

    NOT_AUTHENTICATED = auto()
    AUTHENTICATED = auto()
    SELECTED = auto()
    LOGOUT = auto()


class ShutOut(Exception):
    """The account was disabled or removed while its client was logged in."""


class Listed(NamedTuple):
    """An answer to LIST, which is the same as long as the mailboxes are."""

    command: List
    utf8: bool
    tree: Tree | None  # as of which mailboxes; None: it was asked once
    answer: bytes


class Session:
    """One client from its greeting to its BYE."""

    __slots__ = (
        "_output",
        "_pending",
        "authenticator",
        "behind",
        "channel",
        "clients",
        "enabled",
        "failures",
        "flags_table",
        "hears",
        "id",
        "limited",
        "listed",
        "mail",
        "principal",
        "progress",
        "recent_flags_table",
        "recheck_at",
        "relieving",
        "selected",
        "state",
        "tag",
        "watch",
    )

    def __init__(
        self,
        *,
        mail: Mail,
        authenticator: Authenticator,
        channel: Channel,
        session_id: str,
        clients: Clients | None = None,
    ) -> None:
        self.mail = mail
        self.authenticator = authenticator
        self.channel = channel
        self.clients = clients or Clients(mail.config.imap, mail.events, mail.metrics)
        self.id = session_id
        self.state = State.NOT_AUTHENTICATED
        self.principal: Principal | None = None
        self.selected: Selected | None = None
        self.enabled: set[bytes] = set()
        self.tag = b"*"  # of the command that is done now
        self.limited: bytes | None = None  # the code that tells what was left out (RFC 9738)
        self.failures = 0  # failed logins
        self.behind = False  # whether the store could not be asked for changes
        self.listed: Listed | None = None  # what LIST was answered with
        self.recheck_at = 0.0  # loop time at which the account is looked at again
        self.hears = EVERYTHING
        self.watch: Watcher | None = None
        self.flags_table = flags.RenderedFlags(recent=False)
        self.recent_flags_table = flags.RenderedFlags(recent=True)
        self.progress: tuple[int, int] | None = None  # of the command: done, to be done
        self.relieving = False  # whether a part of a line may have been written
        self._output: list[bytes] = []
        self._pending = 0

    # what the client knows -------------------------------------------------------------------

    @property
    def condstore(self) -> bool:
        """Whether the client wants mod-sequences (RFC 7162 §3.1)."""
        return b"CONDSTORE" in self.enabled or self.qresync

    @property
    def qresync(self) -> bool:
        """Whether the client takes VANISHED for EXPUNGE (RFC 7162 §3.2.10)."""
        return b"QRESYNC" in self.enabled

    @property
    def rev2(self) -> bool:
        """Whether the client speaks IMAP4rev2; until it says so it is answered as by rev1."""
        return b"IMAP4rev2" in self.enabled

    @property
    def utf8(self) -> bool:
        """Whether names and quoted strings are UTF-8 (RFC 9051 §5.1, RFC 6855 §3)."""
        return self.rev2 or b"UTF8=ACCEPT" in self.enabled

    @property
    def uidonly(self) -> bool:
        """Whether the client knows messages by UID only (RFC 9586 §3)."""
        return b"UIDONLY" in self.enabled

    # who and where ---------------------------------------------------------------------------

    @property
    def user(self) -> Principal:
        """Who is logged in."""
        assert self.principal is not None
        return self.principal

    @property
    def account(self) -> AccountId:
        """The logged-in user's own account; that of the selected mailbox may be another."""
        return self.user.account_id

    @property
    def open(self) -> Selected:
        """The selected mailbox, in commands that need one."""
        assert self.selected is not None
        return self.selected

    @property
    def writable(self) -> Selected:
        """The selected mailbox, in commands that change it."""
        if self.open.read_only:
            raise Refused(b"READ-ONLY", "Mailbox is open for reading only")
        return self.open

    def login_allowed(self) -> bool:
        """Whether a password may be sent here: never in plain text unless configured."""
        return self.channel.secure or self.mail.config.imap.allow_plaintext_login

    def log_in(self, principal: Principal) -> None:
        """Note who the client is; TooMany when the account has too many sessions."""
        self.clients.log_in(self, principal.account_id)
        self.principal = principal
        self.state = State.AUTHENTICATED
        self.channel.framing.append_limit = self.mail.config.imap.max_append_size
        self.channel.logged_in()

    def log_out(self) -> None:
        """Forget who the client is and all that it switched on (RFC 8437 §3)."""
        self.end()
        self.principal = None
        self.listed = None
        self.enabled.clear()
        self.state = State.NOT_AUTHENTICATED
        self.channel.framing.append_limit = 0

    def end(self) -> None:
        """Close the mailbox and listen to nothing any more."""
        self.unselect()
        self.listen(None, EVERYTHING)
        if self.principal is not None:
            self.clients.log_out(self, self.principal.account_id)

    def select(self, selected: Selected) -> None:
        """Open a mailbox."""
        self.selected = selected
        self.state = State.SELECTED
        self._be_woken(self.watch is not None)

    def unselect(self) -> None:
        """Close the mailbox, if any is open."""
        if self.selected is not None:
            self.mail.events.unsubscribe(self.selected.subscription)
            self.selected = None
            self.state = State.AUTHENTICATED

    def listen(self, watch: Watcher | None, hears: Hears) -> None:
        """Take what the client wants to hear of in place of what it wanted before."""
        if self.watch is not None:
            self.watch.close()
        self.watch, self.hears = watch, hears
        self._be_woken(watch is not None)

    def made(self, account: AccountId, modseq: int) -> None:
        """Note that the client made a change, which it is not told of (RFC 5465 §5)."""
        if self.watch is not None:
            self.watch.made(account, modseq)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let changes of the selected mailbox end a wait for the client."""
        self._be_woken(True)
        try:
            yield
        finally:
            self._be_woken(self.watch is not None)

    def _be_woken(self, wake: bool) -> None:
        if self.selected is not None:
            self.selected.subscription.wake = self.channel.wake if wake else None

    # what goes out ---------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Queue octets of the answer; a small answer leaves in one write."""
        if data:
            self._output.append(data)
            self._pending += len(data)

    def send_all(self, pieces: Sequence[bytes]) -> None:
        """Queue octets that are in pieces."""
        self._output += pieces
        self._pending += sum(map(len, pieces))

    def mailbox_name(self, path: str) -> bytes:
        """Write the name of a mailbox as the client reads it."""
        return mailbox_name(path, utf8=self.utf8)

    def untagged(self, text: bytes) -> None:
        """Queue one line of data."""
        self.send(b"* %b\r\n" % text)

    def flush(self) -> None:
        """Write what is queued."""
        if self._output:
            data = b"".join(self._output) if len(self._output) > 1 else self._output[0]
            self._output.clear()
            self._pending = 0
            self.channel.write(data)

    async def relieve(self) -> None:
        """Write and wait for a slow reader, when much is queued."""
        if self._pending < CHUNK:
            return
        output, self._output, self._pending = self._output, [], 0
        self.relieving = True
        try:
            for batch in _batches(output):
                self.channel.write_all(batch)
                await self.channel.drain()
        finally:
            self.relieving = False

    def advance(self, done: int, goal: int) -> None:
        """Note how far the command is, should it take long."""
        self.progress = (done, goal) if goal else None

    def bye(self, text: bytes, code: bytes | None = None) -> None:
        """Say good-bye; the conversation ends after this command."""
        self.send(status_line(b"*", b"BYE", text, code))
        self.state = State.LOGOUT

    # what may be done ------------------------------------------------------------------------

    async def check_rights(self) -> None:
        """Look up what the user may do with the selected mailbox, and tell when that changed.

        Without the right to read it the conversation ends (RFC 4314 §5.1.1): BYE is queued, and
        Refused raised.
        """
        selected = self.open
        selected.rights_at = selected.listing.modseq
        account, mailbox = selected.account, selected.mailbox_id
        try:
            rights = await access.rights(self.mail, self.user, account, mailbox)
        except NotFound:  # one's own, deleted: its messages are told to be gone
            return
        if rights == selected.rights:
            return
        if Right.READ not in rights:
            self.unselect()
            self.bye(b"The mailbox is no longer shared with you", b"NOPERM")
            raise Refused(b"NOPERM", "The mailbox is no longer shared with you")
        was_read_only, selected.rights = selected.read_only, rights
        self.tell_permanent_flags()
        if selected.read_only is not was_read_only:
            code = b"READ-ONLY" if selected.read_only else b"READ-WRITE"
            self.untagged(b"OK [%b] Your rights have changed" % code)

    async def check_sharing(self) -> None:
        """Check the rights if the selected mailbox is another's; one's own is known by its changes.

        Whatever reads the mailbox comes here first. Raises what `check_rights` does.
        """
        if self.open.account != self.account:
            await self.check_rights()

    def tell_permanent_flags(self) -> None:
        """Send PERMANENTFLAGS."""
        selected = self.open
        shown = b""
        if not selected.read_only:
            shown = flags.permanent(selected.keywords, selected.rights)
        self.untagged(b"OK [PERMANENTFLAGS (%b)] Flags that are kept" % shown)

    # what changed ----------------------------------------------------------------------------

    async def synchronize(self, *, may_expunge: bool, ask: bool, demanded: bool = False) -> None:
        """Tell the client what changed in its mailbox, if it wants to hear that or `demanded` it.

        The store is asked when an event hinted at a change, or always with `ask`. Raises what
        `check_rights` does.
        """
        selected = self.selected
        if selected is None or not (self.hears.messages or demanded):
            return
        may_expunge |= self.hears.immediate
        listing, view = selected.listing, selected.view
        last = view.uids[view.count - 1] if view.count else 0
        if selected.subscription.modseq > listing.modseq:
            await listings.refresh(self.mail, listing, heard=selected.subscription.modseq)
        elif ask:
            await listings.look(self.mail, listing)
        if selected.is_told and self.watch is None:
            return  # as after most commands
        if listing.renewed > selected.rights_at:
            await self.check_rights()
        if view.uids is listing.uids or may_expunge:
            await self._claim_recent(selected)
        selected.heard = listing.modseq  # what others put into it from here on is looked at later
        self.announce(may_expunge=may_expunge)
        if self.watch is not None:
            await self.watch.arrived(last)
        for context in list(selected.contexts.values()):
            await context.changed()

    @property
    def has_news(self) -> bool:
        """Whether something happened that was not looked at yet."""
        if self.watch is not None and self.watch.has_news:
            return True
        selected = self.selected
        return (
            selected is not None
            and self.hears.messages
            and selected.subscription.modseq > selected.heard
        )

    async def tell_news(self, *, may_expunge: bool, ask: bool, demanded: bool = False) -> None:
        """Tell all that the client wants to hear of."""
        await self.synchronize(may_expunge=may_expunge, ask=ask, demanded=demanded)
        if self.watch is not None and self.state is not State.LOGOUT:
            await self.watch.tell()

    async def catch_up(self) -> None:
        """Tell before a command what could not be told after the last; MailError if not now either.

        The client knows messages that this session does not, by APPENDUID for one: a STORE of them
        would change nothing, and be answered with OK.
        """
        if self.behind:
            await self.synchronize(may_expunge=False, ask=True)
            self.behind = False

    async def _claim_recent(self, selected: Selected) -> None:
        """Make new messages \\Recent in this session, unless it only reads."""
        view, listing = selected.view, selected.listing
        last_known = view.uids[view.count - 1] if view.count else 0
        if not listing.uids or listing.uids[-1] <= last_known:
            return
        if selected.read_only:
            first = await mailboxes.peek_recent(self.mail, selected.account, selected.mailbox_id)
        else:
            taken = await mailboxes.take_recent(self.mail, selected.account, selected.mailbox_id)
            # messages that came between the two queries were taken, so they have to be known
            await listings.look(self.mail, listing)
            # those that came since then are for whoever takes them next
            view.add_recent(taken.start, taken.stop - 1)
            return
        view.add_recent(first, listing.uids[-1] if listing.uids else 0)

    def announce(self, *, may_expunge: bool) -> None:
        """Send EXPUNGE, EXISTS, RECENT, FLAGS and FETCH for what the view does not know."""
        selected = self.open
        listing, view = selected.listing, selected.view
        known, told = view.count, view.uids
        update = view.advance(listing.uids, may_expunge=may_expunge)
        if update.expunged:
            numbers = {told[number - 1]: number for number in update.expunged}
            for context in selected.contexts.values():
                context.leaving(numbers)
        if update.expunged and (self.qresync or self.uidonly):
            gone = [told[number - 1] for number in reversed(update.expunged)]
            self.untagged(b"VANISHED %b" % compact(gone))
        else:
            self.send(b"".join([b"* %d EXPUNGE\r\n" % number for number in update.expunged]))
        if update.exists is not None:
            self.untagged(b"%d EXISTS" % update.exists)
            if not self.rev2:
                self.untagged(b"%d RECENT" % len(view.recent_positions()))
        if listing.modseq > view.modseq or (selected.withheld and self.hears.flags):
            self._announce_flags(selected, known - len(update.expunged))
        if view.uids is listing.uids and not selected.withheld:
            selected.complete = listing.modseq
        elif self.condstore:
            # lest the client takes the mod-sequences it sees for all it has to know (RFC 7162 §4)
            self.untagged(b"OK [HIGHESTMODSEQ %d] More has happened" % selected.complete)
        selected.own_changes.clear()

    def learn_keywords(self, words: Iterable[str]) -> None:
        """Send FLAGS when there are keywords that the client was not told of."""
        selected = self.open
        if not selected.keywords.issuperset(words):
            selected.keywords = selected.keywords.union(words)
            self.untagged(b"FLAGS (%b)" % flags.all_names(selected.keywords))

    def _announce_flags(self, selected: Selected, known: int) -> None:
        """Tell the flags that changed of messages that the client knows, or keep that for later."""
        listing, view, own = selected.listing, selected.view, selected.own_changes
        changed = listing.changed_since(view.modseq, own)
        view.modseq = listing.modseq
        untold = selected.withheld
        for uid in changed:
            index, position = listing.index(uid), view.position(uid)
            if index is None or position is None or position >= known:
                continue
            if listing.modseqs[index] not in own:
                untold.add(uid)
        if not self.hears.flags:
            return
        if listing.keywords:
            fresh = untold.union(changed)
            words = {word for uid in fresh for word in listing.keywords.get(uid, ())}
            self.learn_keywords(words)
        lines = []
        for uid in sorted(untold):
            index, position = listing.index(uid), view.position(uid)
            if index is not None and position is not None:
                items = self.changed_items(selected, index, uid, with_uid=True)
                lines.append(self.fetch_line(position, uid, items))
        untold.clear()
        self.send(b"".join(lines))

    def changed_items(
        self, selected: Selected, index: int, uid: int, *, with_uid: bool, silent: bool = False
    ) -> bytes:
        """Return what is told of a message whose flags changed; `silent`: without the flags."""
        items = []
        if not silent:
            items.append(b"FLAGS (%b)" % self.flags_text(selected, index, uid))
        if self.condstore:
            items.append(b"MODSEQ (%d)" % selected.listing.modseqs[index])
        # RFC 7162 §3.2.4: whoever knows mod-sequences is told UIDs with them
        if items and (with_uid or self.condstore) and not self.uidonly:
            items.insert(0, b"UID %d" % uid)
        return b" ".join(items)

    def fetch_line(self, position: int, uid: int, items: bytes) -> bytes:
        """Write FETCH, or UIDFETCH when the client knows messages by UID only (RFC 9586 §3)."""
        if self.uidonly:
            return b"* %d UIDFETCH (%b)\r\n" % (uid, items)
        return b"* %d FETCH (%b)\r\n" % (position + 1, items)

    def flags_text(self, selected: Selected, index: int, uid: int) -> bytes:
        """Return the flags of one message as the client sees them."""
        bits = selected.listing.flags[index]
        keywords = selected.listing.keywords.get(uid, ())
        recent = not self.rev2 and selected.view.is_recent(uid)
        if keywords:
            return flags.render(bits, keywords, recent=recent)
        return (self.recent_flags_table if recent else self.flags_table)[bits]


def _batches(output: Iterable[bytes]) -> Iterator[list[bytes | memoryview]]:
    """Put pieces together until they are as much as is written at once, and cut larger ones."""
    batch: list[bytes | memoryview] = []
    room = CHUNK
    for data in output:
        if len(data) <= room:
            batch.append(data)
            room -= len(data)
            continue
        rest = memoryview(data)
        while len(rest) > room:
            yield [*batch, rest[:room]]
            batch.clear()
            rest, room = rest[room:], CHUNK
        batch.append(rest)
        room -= len(rest)
    if batch:
        yield batch
