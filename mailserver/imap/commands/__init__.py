"""The protocol on one screen: every command, capability and response code."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mailserver import errors
from mailserver.imap.commands import (
    acl,
    append,
    auth,
    connection,
    context,
    copy,
    fetch,
    idle,
    mailboxes,
    metadata,
    multisearch,
    notify,
    quota,
    search,
    select,
    sort,
    store,
    thread,
    uidbatches,
)
from mailserver.imap.commands.capabilities import CAPABILITIES
from mailserver.imap.protocol import acl as acl_wire
from mailserver.imap.protocol import append as append_wire
from mailserver.imap.protocol import auth as auth_wire
from mailserver.imap.protocol import connection as wire
from mailserver.imap.protocol import context as context_wire
from mailserver.imap.protocol import copy as copy_wire
from mailserver.imap.protocol import fetch as fetch_wire
from mailserver.imap.protocol import listing as listing_wire
from mailserver.imap.protocol import mailboxes as mailboxes_wire
from mailserver.imap.protocol import metadata as metadata_wire
from mailserver.imap.protocol import multisearch as multisearch_wire
from mailserver.imap.protocol import notify as notify_wire
from mailserver.imap.protocol import quota as quota_wire
from mailserver.imap.protocol import search as search_wire
from mailserver.imap.protocol import select as select_wire
from mailserver.imap.protocol import sort as sort_wire
from mailserver.imap.protocol import store as store_wire
from mailserver.imap.protocol import thread as thread_wire
from mailserver.imap.protocol import uidbatches as uidbatches_wire
from mailserver.imap.protocol.cursor import Cursor
from mailserver.imap.session import Session, State

__all__ = ["CAPABILITIES", "CODES", "COMMANDS", "Spec"]


@dataclass(frozen=True, slots=True)
class Spec:
    """How one command is read, done and answered."""

    parse: Callable[[Cursor], object]
    handler: Callable[[Session, Any], Awaitable[bytes | None]]  # returns the code of its OK
    states: State
    may_expunge: bool = True  # EXPUNGE may be announced at its end (RFC 3501 §7.4.1)
    ask: bool = False  # look for changes at its end even without a hint
    expunges: bool = False  # EXPUNGE is its answer, and told also to who wants to hear nothing
    announces: bool = True  # what changed is told at its end; SELECT told how all is already
    numbers: bool = False  # messages are named by sequence numbers
    then: Callable[[Session], Awaitable[None]] | None = None  # what follows its OK on the wire


ANY = State.NOT_AUTHENTICATED | State.AUTHENTICATED | State.SELECTED
BEFORE_LOGIN = State.NOT_AUTHENTICATED
LOGGED_IN = State.AUTHENTICATED | State.SELECTED
SELECTED = State.SELECTED

COMMANDS: dict[bytes, Spec] = {
    b"CAPABILITY": Spec(wire.parse_bare, connection.capability, ANY),
    b"NOOP": Spec(wire.parse_bare, connection.noop, ANY, ask=True),
    b"LOGOUT": Spec(wire.parse_bare, connection.logout, ANY),
    b"UNAUTHENTICATE": Spec(
        wire.parse_bare, connection.unauthenticate, LOGGED_IN, then=connection.end_compression
    ),
    b"ID": Spec(wire.parse_id, connection.identify, ANY),
    b"STARTTLS": Spec(
        wire.parse_bare, connection.start_tls, BEFORE_LOGIN, then=connection.negotiate
    ),
    b"COMPRESS": Spec(
        wire.parse_compress, connection.compress, LOGGED_IN, then=connection.begin_compression
    ),
    b"LOGIN": Spec(auth_wire.parse_login, auth.login, BEFORE_LOGIN),
    b"AUTHENTICATE": Spec(auth_wire.parse_authenticate, auth.authenticate, BEFORE_LOGIN),
    b"LANGUAGE": Spec(wire.parse_language, connection.language, ANY),
    b"GETJMAPACCESS": Spec(wire.parse_bare, connection.get_jmap_access, LOGGED_IN),
    b"ENABLE": Spec(wire.parse_enable, connection.enable, LOGGED_IN),
    b"NAMESPACE": Spec(wire.parse_bare, connection.namespace, LOGGED_IN),
    b"LIST": Spec(listing_wire.parse_list, mailboxes.list_mailboxes, LOGGED_IN),
    b"LSUB": Spec(mailboxes_wire.parse_lsub, mailboxes.list_subscribed, LOGGED_IN),
    b"STATUS": Spec(mailboxes_wire.parse_status, mailboxes.status, LOGGED_IN),
    b"CREATE": Spec(mailboxes_wire.parse_create, mailboxes.create, LOGGED_IN),
    b"DELETE": Spec(mailboxes_wire.parse_named, mailboxes.delete, LOGGED_IN),
    b"RENAME": Spec(mailboxes_wire.parse_rename, mailboxes.rename, LOGGED_IN),
    b"SUBSCRIBE": Spec(mailboxes_wire.parse_named, mailboxes.subscribe, LOGGED_IN),
    b"UNSUBSCRIBE": Spec(mailboxes_wire.parse_named, mailboxes.unsubscribe, LOGGED_IN),
    b"GETQUOTA": Spec(quota_wire.parse_getquota, quota.get_quota, LOGGED_IN),
    b"GETQUOTAROOT": Spec(quota_wire.parse_getquotaroot, quota.get_quota_root, LOGGED_IN),
    b"GETMETADATA": Spec(metadata_wire.parse_getmetadata, metadata.get_metadata, LOGGED_IN),
    b"SETMETADATA": Spec(metadata_wire.parse_setmetadata, metadata.set_metadata, LOGGED_IN),
    b"SETACL": Spec(acl_wire.parse_setacl, acl.set_acl, LOGGED_IN),
    b"DELETEACL": Spec(acl_wire.parse_identified, acl.delete_acl, LOGGED_IN),
    b"GETACL": Spec(mailboxes_wire.parse_named, acl.get_acl, LOGGED_IN),
    b"LISTRIGHTS": Spec(acl_wire.parse_identified, acl.list_rights, LOGGED_IN),
    b"MYRIGHTS": Spec(mailboxes_wire.parse_named, acl.my_rights, LOGGED_IN),
    b"SELECT": Spec(select_wire.parse_select, select.select, LOGGED_IN, announces=False),
    b"EXAMINE": Spec(select_wire.parse_select, select.examine, LOGGED_IN, announces=False),
    b"APPEND": Spec(append_wire.parse_append, append.append, LOGGED_IN, ask=True),
    b"REPLACE": Spec(
        append_wire.parse_replace, append.replace, SELECTED, ask=True, expunges=True, numbers=True
    ),
    b"ESEARCH": Spec(multisearch_wire.parse_esearch, multisearch.esearch, LOGGED_IN),
    b"UID ESEARCH": Spec(multisearch_wire.parse_esearch, multisearch.esearch, LOGGED_IN),
    b"NOTIFY": Spec(notify_wire.parse_notify, notify.notify, LOGGED_IN, ask=True),
    b"IDLE": Spec(wire.parse_bare, idle.idle, LOGGED_IN),
    b"CHECK": Spec(wire.parse_bare, connection.noop, SELECTED, ask=True),
    b"UNSELECT": Spec(wire.parse_bare, select.unselect, SELECTED),
    b"CLOSE": Spec(wire.parse_bare, select.close, SELECTED),
    b"EXPUNGE": Spec(store_wire.parse_expunge, store.expunge, SELECTED, ask=True, expunges=True),
    b"FETCH": Spec(fetch_wire.parse_fetch, fetch.fetch, SELECTED, may_expunge=False, numbers=True),
    b"STORE": Spec(store_wire.parse_store, store.store, SELECTED, may_expunge=False, numbers=True),
    b"SEARCH": Spec(
        search_wire.parse_search, search.search, SELECTED, may_expunge=False, numbers=True
    ),
    b"CANCELUPDATE": Spec(context_wire.parse_cancelupdate, context.cancel_update, SELECTED),
    b"SORT": Spec(sort_wire.parse_sort, sort.sort, SELECTED, may_expunge=False, numbers=True),
    b"THREAD": Spec(
        thread_wire.parse_thread, thread.thread, SELECTED, may_expunge=False, numbers=True
    ),
    b"COPY": Spec(copy_wire.parse_copy, copy.copy, SELECTED, numbers=True),
    b"MOVE": Spec(copy_wire.parse_copy, copy.move, SELECTED, ask=True, expunges=True, numbers=True),
    b"UIDBATCHES": Spec(uidbatches_wire.parse_uidbatches, uidbatches.uid_batches, SELECTED),
    b"UID FETCH": Spec(fetch_wire.parse_uid_fetch, fetch.fetch, SELECTED),
    b"UID STORE": Spec(store_wire.parse_uid_store, store.store, SELECTED),
    b"UID SEARCH": Spec(search_wire.parse_uid_search, search.search, SELECTED),
    b"UID SORT": Spec(sort_wire.parse_uid_sort, sort.sort, SELECTED),
    b"UID THREAD": Spec(thread_wire.parse_uid_thread, thread.thread, SELECTED),
    b"UID COPY": Spec(copy_wire.parse_uid_copy, copy.copy, SELECTED),
    b"UID MOVE": Spec(copy_wire.parse_uid_copy, copy.move, SELECTED, ask=True, expunges=True),
    b"UID REPLACE": Spec(
        append_wire.parse_uid_replace, append.replace, SELECTED, ask=True, expunges=True
    ),
    b"UID EXPUNGE": Spec(
        store_wire.parse_uid_expunge, store.expunge, SELECTED, ask=True, expunges=True
    ),
}

CODES: dict[type[errors.MailError], tuple[bytes, bytes]] = {
    # response code (RFC 5530), text
    errors.NotFound: (b"NONEXISTENT", b"No such mailbox or message"),
    errors.AlreadyExists: (b"ALREADYEXISTS", b"Mailbox exists"),
    errors.Forbidden: (b"NOPERM", b"Not permitted"),
    errors.Invalid: (b"CANNOT", b"Not possible with this name or value"),
    errors.OverQuota: (b"OVERQUOTA", b"Over quota"),
    errors.TooLarge: (b"TOOBIG", b"Too large"),
    errors.TooMany: (b"LIMIT", b"A limit is reached, try again later"),
    errors.InUse: (b"HASCHILDREN", b"Mailbox has mailboxes below it"),
    errors.CannotCalculateChanges: (b"SERVERBUG", b"Internal error"),
    errors.AuthenticationFailed: (b"AUTHENTICATIONFAILED", b"Wrong login or password"),
    errors.Unavailable: (b"UNAVAILABLE", b"Temporarily unavailable, try again"),
    errors.Corrupt: (b"CORRUPTION", b"Stored data is damaged"),
    errors.ConfigurationError: (b"SERVERBUG", b"Internal error"),
}
