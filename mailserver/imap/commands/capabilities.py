"""What the server says it can do, and when: only what works entirely."""

from collections.abc import Callable

from mailserver.config import JMAP_SESSION
from mailserver.imap.session import Session, State


def _always(_: Session) -> bool:
    return True


def _before_login(session: Session) -> bool:
    return session.state is State.NOT_AUTHENTICATED


def _after_login(session: Session) -> bool:
    return not _before_login(session)


def _may_log_in(session: Session) -> bool:
    return _before_login(session) and session.login_allowed()


def _may_bind(session: Session) -> bool:
    return _may_log_in(session) and session.channel.end_point is not None


def _may_use_tokens(session: Session) -> bool:
    return _may_log_in(session) and session.authenticator.takes_tokens


def _needs_tls(session: Session) -> bool:
    return _before_login(session) and not session.login_allowed()


def _offers_tls(session: Session) -> bool:
    return _before_login(session) and session.channel.can_start_tls


def jmap_session(session: Session) -> str:
    """Return where JMAP begins for the same mail, with the same login; empty when not known."""
    base = session.mail.config.http.public_url
    return base.rstrip("/") + JMAP_SESSION if base else ""


def _has_jmap(session: Session) -> bool:
    return _after_login(session) and bool(jmap_session(session))


CAPABILITIES: tuple[tuple[bytes, Callable[[Session], bool]], ...] = (
    (b"IMAP4rev1", _always),
    (b"IMAP4rev2", _always),
    (b"LITERAL+", _always),
    (b"SASL-IR", _always),
    (b"ID", _always),
    (b"ENABLE", _always),
    (b"STARTTLS", _offers_tls),
    (b"LOGINDISABLED", _needs_tls),
    (b"AUTH=SCRAM-SHA-256-PLUS", _may_bind),
    (b"AUTH=SCRAM-SHA-256", _may_log_in),
    (b"AUTH=OAUTHBEARER", _may_use_tokens),
    (b"AUTH=XOAUTH2", _may_use_tokens),
    (b"AUTH=PLAIN", _may_log_in),
    (b"AUTH=LOGIN", _may_log_in),
    (b"UTF8=ACCEPT", _always),
    (b"COMPRESS=DEFLATE", _after_login),
    (b"IDLE", _always),
    (b"NOTIFY", _always),
    (b"NAMESPACE", _always),
    (b"CHILDREN", _always),
    (b"SPECIAL-USE", _always),
    (b"CREATE-SPECIAL-USE", _always),
    (b"LIST-EXTENDED", _always),
    (b"LIST-STATUS", _always),
    (b"STATUS=SIZE", _always),
    (b"ACL", _always),
    (b"RIGHTS=kxte", _always),
    (b"LIST-MYRIGHTS", _always),
    (b"METADATA", _always),
    (b"LIST-METADATA", _always),
    (b"QUOTA", _always),
    (b"QUOTA=RES-STORAGE", _always),
    (b"UIDPLUS", _always),
    (b"UNSELECT", _always),
    (b"MOVE", _always),
    (b"CONDSTORE", _always),
    (b"QRESYNC", _always),
    (b"UIDONLY", _always),
    (b"UIDBATCHES", _always),
    (b"UNAUTHENTICATE", _after_login),
    (b"ESEARCH", _always),
    (b"SEARCHRES", _always),
    (b"SEARCH=FUZZY", _always),
    (b"WITHIN", _always),
    (b"SORT", _always),
    (b"SORT=DISPLAY", _always),
    (b"ESORT", _always),
    (b"CONTEXT=SEARCH", _always),
    (b"CONTEXT=SORT", _always),
    (b"PARTIAL", _always),
    (b"MULTISEARCH", _always),
    (b"THREAD=ORDEREDSUBJECT", _always),
    (b"THREAD=REFERENCES", _always),
    (b"THREAD=REFS", _always),
    (b"BINARY", _always),
    (b"MULTIAPPEND", _always),
    (b"CATENATE", _always),
    (b"REPLACE", _always),
    (b"PREVIEW", _always),
    (b"OBJECTID", _always),
    (b"SAVEDATE", _always),
    (b"JMAPACCESS", _has_jmap),
    (b"INPROGRESS", _always),
    (b"LANGUAGE", _always),
    (b"I18NLEVEL=1", _always),
)
ENABLEABLE = (b"CONDSTORE", b"QRESYNC", b"UIDONLY", b"IMAP4rev2", b"UTF8=ACCEPT")


_CONDITIONS = frozenset(offered for _, offered in CAPABILITIES)


def capability_list(session: Session) -> bytes:
    """Return what is offered to this session now."""
    now = {offered: offered(session) for offered in _CONDITIONS}
    names = [name for name, offered in CAPABILITIES if now[offered]]
    # the same for all mailboxes (RFC 7889 §3)
    names.append(b"APPENDLIMIT=%d" % session.mail.config.imap.max_append_size)
    imap = session.mail.config.imap
    if imap.message_limit:
        names.append(b"MESSAGELIMIT=%d" % imap.message_limit)
    if imap.save_limit:
        names.append(b"SAVELIMIT=%d" % imap.save_limit)
    return b" ".join(names)
