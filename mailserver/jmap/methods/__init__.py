"""The tables of JMAP: methods, capabilities, errors; and the one dispatcher that uses them."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mailserver import errors
from mailserver.jmap.methods import (
    blob,
    changes,
    core,
    email,
    email_copy,
    email_import,
    email_parse,
    email_set,
    get,
    identity,
    mailbox,
    mailbox_query,
    mailbox_set,
    push,
    quota,
    search,
    snippet,
    submission,
    submission_set,
    thread,
    vacation,
)
from mailserver.jmap.methods.query_changes import StandardQueryChanges
from mailserver.jmap.methods.set import Set, Wishes
from mailserver.jmap.protocol import properties
from mailserver.jmap.protocol.errors import MethodError, Problem, RequestError
from mailserver.jmap.protocol.filters import EMAIL_SORTS
from mailserver.jmap.protocol.references import Response, resolve
from mailserver.jmap.protocol.request import Call, Request
from mailserver.jmap.session import AccountView, Limits, Session
from mailserver.mail.casemap import COLLATIONS
from mailserver.mail.search import AnchorNotFound

log = logging.getLogger(__name__)

CORE = "urn:ietf:params:jmap:core"
MAIL = "urn:ietf:params:jmap:mail"
BLOB = "urn:ietf:params:jmap:blob"
QUOTA = "urn:ietf:params:jmap:quota"
WEB_SOCKET = "urn:ietf:params:jmap:websocket"
VAPID = "urn:ietf:params:jmap:webpush-vapid"
# how Apache James lets browsers open a WebSocket; its clients look for this name
WEB_SOCKET_TICKET = "com:linagora:params:jmap:ws:ticket"
SUBMISSION = "urn:ietf:params:jmap:submission"
VACATION = "urn:ietf:params:jmap:vacationresponse"

MAX_MAILBOX_DEPTH = 20
MAX_MAILBOX_NAME = 255  # octets

Handler = Callable[[Session, Any], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Spec:
    """A method: the capability that it belongs to, its arguments, its handler."""

    capability: str
    arguments: Callable[..., Any] | None  # None: any, and no account
    handler: Handler
    shared: bool = True  # also there on an account that another shares, if its capability is


METHODS: dict[str, Spec] = {
    "Core/echo": Spec(CORE, None, core.echo),
    "PushSubscription/get": Spec(CORE, push.GetPush, push.get),
    "PushSubscription/set": Spec(CORE, Wishes, push.set_subscriptions),
    "Blob/copy": Spec(CORE, blob.Copy, blob.copy),
    "Blob/upload": Spec(BLOB, blob.Upload, blob.upload),
    "Blob/get": Spec(BLOB, blob.Get, blob.get),
    "Blob/lookup": Spec(BLOB, blob.Lookup, blob.lookup),
    "Mailbox/get": Spec(MAIL, get.Get, mailbox.get),
    "Mailbox/changes": Spec(MAIL, changes.Changes, changes.mailbox_changes),
    "Mailbox/query": Spec(MAIL, mailbox_query.Query, mailbox_query.query),
    "Mailbox/queryChanges": Spec(MAIL, mailbox_query.QueryChanges, mailbox_query.query_changes),
    "Mailbox/set": Spec(MAIL, mailbox_set.SetMailbox, mailbox_set.set_mailboxes),
    "Thread/get": Spec(MAIL, get.Get, thread.get),
    "Thread/changes": Spec(MAIL, changes.Changes, changes.thread_changes),
    "Email/get": Spec(MAIL, email.GetEmail, email.get),
    "Email/changes": Spec(MAIL, changes.Changes, changes.email_changes),
    "Email/set": Spec(MAIL, Set, email_set.set_emails),
    "Email/copy": Spec(MAIL, email_copy.Copy, email_copy.copy_emails),
    "Email/import": Spec(MAIL, email_import.Import, email_import.import_emails),
    "Email/parse": Spec(MAIL, email_parse.Parse, email_parse.parse),
    "Email/query": Spec(MAIL, search.Query, search.query),
    "Email/queryChanges": Spec(MAIL, search.QueryChanges, search.changes),
    "SearchSnippet/get": Spec(MAIL, snippet.GetSnippets, snippet.get),
    "Quota/get": Spec(QUOTA, get.Get, quota.get),
    "Quota/changes": Spec(QUOTA, changes.Changes, quota.changes),
    "Quota/query": Spec(QUOTA, get.StandardQuery, quota.query),
    "Quota/queryChanges": Spec(QUOTA, StandardQueryChanges, quota.query_changes),
    "Identity/get": Spec(SUBMISSION, get.Get, identity.get),
    "Identity/changes": Spec(SUBMISSION, changes.Changes, identity.get_changes),
    "Identity/set": Spec(SUBMISSION, Set, identity.set_identities),
    "EmailSubmission/get": Spec(SUBMISSION, get.Get, submission.get),
    "EmailSubmission/changes": Spec(SUBMISSION, changes.Changes, submission.get_changes),
    "EmailSubmission/query": Spec(SUBMISSION, get.StandardQuery, submission.query),
    "EmailSubmission/queryChanges": Spec(
        SUBMISSION, StandardQueryChanges, submission.query_changes
    ),
    "EmailSubmission/set": Spec(
        SUBMISSION, submission_set.SetSubmission, submission_set.set_submissions
    ),
    "VacationResponse/get": Spec(VACATION, get.Get, vacation.get),
    "VacationResponse/set": Spec(VACATION, Set, vacation.set_vacation),
}


def core_capability(limits: Limits) -> dict[str, object]:
    """Return the core capability (RFC 8620 §2)."""
    return {
        "maxSizeUpload": limits.max_size_upload,
        "maxConcurrentUpload": limits.max_concurrent_upload,
        "maxSizeRequest": limits.max_size_request,
        "maxConcurrentRequests": limits.max_concurrent_requests,
        "maxCallsInRequest": limits.max_calls_in_request,
        "maxObjectsInGet": limits.max_objects_in_get,
        "maxObjectsInSet": limits.max_objects_in_set,
        "collationAlgorithms": list(COLLATIONS),
    }


def mail_capability(limits: Limits) -> dict[str, object]:
    """Return the mail capability of an account (RFC 8621 §1.3.1)."""
    return {
        "maxMailboxesPerEmail": None,
        "maxMailboxDepth": MAX_MAILBOX_DEPTH,
        "maxSizeMailboxName": MAX_MAILBOX_NAME,
        "maxSizeAttachmentsPerEmail": limits.max_size_attachments,
        "emailQuerySortOptions": list(EMAIL_SORTS),
        "mayCreateTopLevelMailbox": True,
    }


# capability -> what an account says about it; the session object says {} but for core
CAPABILITIES: dict[str, Callable[[Limits], dict[str, object]]] = {
    CORE: lambda limits: {},
    MAIL: mail_capability,
    BLOB: blob.capability,
    QUOTA: lambda limits: {},
    WEB_SOCKET: lambda limits: {},
    WEB_SOCKET_TICKET: lambda limits: {},
    VAPID: lambda limits: {},
    SUBMISSION: submission_set.capability,
    VACATION: lambda limits: {},
}

# what there is of an account that another shares
SHARED_CAPABILITIES = frozenset({CORE, MAIL, BLOB})
WRITING = frozenset({"set", "copy", "import", "upload"})  # kinds of methods

ERRORS: dict[type[errors.MailError], str] = {
    errors.AuthenticationFailed: "forbidden",
    errors.CannotCalculateChanges: "cannotCalculateChanges",
    errors.Forbidden: "forbidden",
    errors.Invalid: "invalidArguments",
    errors.TooLarge: "requestTooLarge",
    errors.TooMany: "requestTooLarge",
    errors.Unavailable: "serverUnavailable",
    AnchorNotFound: "anchorNotFound",
}


async def answer(session: Session, request: Request) -> list[Response]:
    """Run the calls of a request in order and return their responses (RFC 8620 §3.4)."""
    unknown = next((urn for urn in sorted(request.using) if urn not in CAPABILITIES), None)
    if unknown is not None:
        raise RequestError(Problem.UNKNOWN_CAPABILITY, f"there is no capability {unknown[:100]!r}")
    session.using = request.using
    if session.mail.config.http.lenient_using and MAIL in request.using:
        session.using |= CAPABILITIES.keys()
    session.created_ids = dict(request.created_ids or {})
    responses: list[Response] = []
    for call in request.calls:
        responses.append(await _traced(session, call, responses))
        while session.following:  # RFC 8620 §5.4, RFC 8621 §7.5
            method, arguments = session.following.pop(0)
            implicit = Call(method, arguments, call.id)
            responses.append(await _traced(session, implicit, responses, implicit=True))
    return responses


async def _traced(
    session: Session, call: Call, before: list[Response], *, implicit: bool = False
) -> Response:
    """Run one call as one span."""
    method = call.method if call.method in METHODS else "unknown"
    with session.mail.tracing.span(f"JMAP {method}", session=session.id) as span:
        response = await _run(session, call, before, implicit=implicit)
        if response[0] == "error":
            span.note(outcome=response[1]["type"])
    return response


async def _run(
    session: Session, call: Call, before: list[Response], *, implicit: bool = False
) -> Response:
    """Run one call: the one place where its time, its outcome and its failure are noted."""
    started = time.perf_counter()
    outcome = "ok"
    name = call.method
    try:
        response = await _call(session, call, before, implicit=implicit)
    except MethodError as error:
        name, response, outcome = "error", error.body(), error.kind
    except errors.MailError as error:
        kind = ERRORS.get(type(error), "serverFail")
        log_failure = log.warning if kind == "serverUnavailable" else log.info
        if kind == "serverFail":
            log_failure = log.error
        log_failure("method failed", exc_info=kind == "serverFail", extra=_about(session, call))
        name, response, outcome = "error", {"type": kind}, kind
    except Exception:  # a fault of this program: the peer is told no more than that
        log.exception("method failed", extra=_about(session, call))
        name, response, outcome = "error", {"type": "serverFail"}, "serverFail"
    metrics = session.mail.metrics
    shown = call.method if call.method in METHODS else "unknown"
    metrics.commands.labels("jmap", shown, outcome).inc()
    metrics.command_seconds.labels("jmap").observe(time.perf_counter() - started)
    return name, response, call.id


def _about(session: Session, call: Call) -> dict[str, object]:
    return {
        "session": session.id,
        "account": session.principal.login,
        "method": call.method[:50],
    }


async def _call(
    session: Session, call: Call, before: list[Response], *, implicit: bool
) -> dict[str, Any]:
    spec = METHODS.get(call.method)
    if spec is None or not (implicit or spec.capability in session.using):
        raise MethodError("unknownMethod")
    arguments = resolve(call.arguments, before, session.budget)
    if spec.arguments is None:
        return await spec.handler(session, arguments)
    parsed = properties.parse(spec.arguments, arguments)
    session.view = await _account(session, call.method, spec, parsed)
    return await spec.handler(session, parsed)


async def _account(session: Session, method: str, spec: Spec, parsed: Any) -> AccountView:
    """Return the account of a call: the one place where it is decided (RFC 8620 §3.6.2)."""
    account_id = getattr(parsed, "account_id", None)  # a few methods concern none
    view = await session.find(session.own_id if account_id is None else account_id)
    if view is None:
        raise MethodError("accountNotFound")
    if view.share is not None:
        if not spec.shared or spec.capability not in SHARED_CAPABILITIES:
            raise MethodError("accountNotSupportedByMethod")
        if view.share.is_read_only and method.partition("/")[2] in WRITING:
            raise MethodError("accountReadOnly")
    return view
