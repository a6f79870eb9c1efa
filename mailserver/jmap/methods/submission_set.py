"""EmailSubmission/set: sending, and taking back (RFC 8621 §7.5)."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from mailserver import errors
from mailserver.jmap.methods import submission_story as story
from mailserver.jmap.methods.set import (
    Json,
    Outcome,
    Records,
    Set,
    carry_out,
    check_size,
    check_state,
)
from mailserver.jmap.methods.submission import record, submission_text
from mailserver.jmap.protocol import envelope as wire
from mailserver.jmap.protocol import properties
from mailserver.jmap.protocol.envelope import By, Envelope, Path, xtext
from mailserver.jmap.protocol.errors import SetError, invalid_properties
from mailserver.jmap.protocol.ids import email_text
from mailserver.jmap.protocol.properties import mapping, nullable, optional, text, texts
from mailserver.jmap.protocol.records import Property, Settable, server_set
from mailserver.jmap.session import Limits, Session
from mailserver.mail import accounts, content, identities, messages, sending, submissions
from mailserver.mail.context import Mail
from mailserver.mail.originals import (
    Flaw,
    Original,
    Unsendable,
    has_line_ends,
    received,
    repair_line_ends,
)
from mailserver.mail.submissions import Draft
from mailserver.model import DELETED, Email, EmailId, Identity, IdKind, Submission, id_value
from mailserver.queue.rules import DeliverBy

log = logging.getLogger(__name__)

CANCELED = "canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSubmission(Set):
    """The arguments of EmailSubmission/set."""

    on_success_update: dict[str, Json] | None = optional(
        "onSuccessUpdateEmail", nullable(properties.objects), None
    )
    on_success_destroy: tuple[str, ...] | None = optional(
        "onSuccessDestroyEmail", nullable(texts), None
    )


TABLE = {
    "id": server_set(text),
    "identityId": Property(text, settable=Settable.AT_CREATION, refers=True),
    "emailId": Property(text, settable=Settable.AT_CREATION, refers=True),
    "threadId": server_set(text),
    "envelope": Property(nullable(wire.envelope), None, Settable.AT_CREATION),
    "sendAt": server_set(text),
    "undoStatus": Property(text, None),  # set by the server, but for taking back
    "deliveryStatus": server_set(mapping),
    "dsnBlobIds": server_set(texts),
    "mdnBlobIds": server_set(texts),
}


def capability(limits: Limits) -> dict[str, object]:
    """Return the submission capability of an account (RFC 8621 §1.3.2)."""
    extensions: dict[str, list[str]] = {
        "8BITMIME": [],
        "DELIVERBY": [],
        "DSN": [],
        "MT-PRIORITY": [],
        "REQUIRETLS": [],
        "SIZE": [str(limits.max_size_message)],
        "SMTPUTF8": [],
    }
    if limits.max_delay:
        extensions["FUTURERELEASE"] = [str(limits.max_delay)]
    return {"maxDelayedSend": limits.max_delay, "submissionExtensions": extensions}


def _deliver_by(mail: Mail, by: By | None, release_at: datetime | None) -> DeliverBy | None:
    if by is None:
        return None
    return sending.in_time(
        mail, by.seconds, returns=by.returns, traced=by.traced, release_at=release_at
    )


async def set_submissions(session: Session, asked: SetSubmission) -> Json:
    """Send emails, take submissions back, forget them; then change or destroy the emails."""
    check_size(session, asked)
    kind = SubmissionRecords(session)
    old_state = await kind.state()
    check_state(asked.if_in_state, old_state)
    outcome = await carry_out(session, asked, kind)
    answer = {
        "accountId": session.account_id,
        "oldState": old_state,
        "newState": await kind.new_state(),
        **outcome.shown(),
    }
    follow(session, asked, outcome, kind.emails)
    return answer


def follow(
    session: Session, asked: SetSubmission, outcome: Outcome, emails: Mapping[str, str]
) -> None:
    """Let the one implicit Email/set follow, about what succeeded (RFC 8621 §7.5)."""
    succeeded = {
        **{f"#{each}": made["id"] for each, made in outcome.created.items()},
        **{each: each for each in (*outcome.updated, *outcome.destroyed)},
    }

    def email_of(key: str) -> str | None:
        submission = succeeded.get(key) or succeeded.get(session.resolved(key))
        return None if submission is None else emails.get(submission)

    update: dict[str, Json] = {}
    for key, patch in (asked.on_success_update or {}).items():
        if (email := email_of(key)) is not None:
            update[email] = update.get(email, {}) | patch
    destroy = [email_of(key) for key in asked.on_success_destroy or ()]
    doomed = list(dict.fromkeys(each for each in destroy if each is not None))
    arguments: Json = {"accountId": session.account_id}
    if update:
        arguments["update"] = update
    if doomed:
        arguments["destroy"] = doomed
    if update or doomed:
        session.following.append(("Email/set", arguments))


class SubmissionRecords(Records):
    """Submissions while a /set works on them."""

    table = TABLE

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.emails: dict[str, str] = {}  # submission -> email, of all that are touched

    async def create(self, new: Mapping[str, Json]) -> Mapping[str, Json | SetError]:
        """Send emails; each is a commit of its own, so one that fails holds up no other."""
        results: dict[str, Json | SetError] = {}
        may_send = (await accounts.get(self.session.mail, self.session.account)).enabled
        for each, values in new.items():
            try:
                if not may_send:
                    raise SetError("forbiddenToSend", "the account is disabled")
                results[each] = await self._send(values)
            except SetError as error:
                results[each] = error
            except Unsendable as error:
                results[each] = refusal = REFUSALS[error.flaw](self.session, error)
                later = error.flaw is Flaw.TOO_FAST
                story.refused(self.session, values["envelope"], refusal.kind, later=later)
            except Exception as error:
                if not any(isinstance(made, dict) for made in results.values()):
                    raise
                # what was sent must be told, or it is sent again
                fault = not isinstance(error, errors.MailError)
                log.warning(
                    "a submission failed", exc_info=fault, extra={"error": type(error).__name__}
                )
                results[each] = SetError("serverFail")
        return results

    async def _send(self, values: Json) -> Json:
        session, mail = self.session, self.session.mail
        if values["undoStatus"] is not None:
            raise invalid_properties(["undoStatus"], "undoStatus is set by the server")
        identity, email = await self._sources(values)
        if email.size > mail.config.smtp.max_message_size:
            raise Unsendable(Flaw.TOO_LARGE)
        stored = await content.content(mail, session.account, email.blob_id)
        # drafts that came by IMAP, and imported mail, may have line ends that SMTP does not know
        raw = stored if has_line_ends(stored) else repair_line_ends(stored)
        original = await sending.checked(mail, session.account, raw)
        separator = mail.config.smtp.subaddress_separator
        if not any(identities.covers(identity, each, separator) for each in original.authors()):
            raise SetError("forbiddenFrom", "From is not the address of the identity")
        asked: Envelope | None = values["envelope"]
        number = submissions.new_id(mail)
        shown = submission_text(number)
        made = await self._envelope(identity, original, asked, shown)
        now = mail.now()
        sent = await submissions.create(
            mail,
            Draft(identity.id, email.id, email.thread_id, _json(made, asked)),
            number,
            original,
            made,
            received(mail.config.server.hostname, session.id, now),
            message_id=f"{shown}@{mail.config.server.hostname}",
        )
        self.modseqs.add(sent.modseq)
        story.accepted(session, made, sent, shown, email.size)
        self.emails[shown] = email_text(email.id)
        log.info(
            "message submitted",
            extra={
                "session": session.id,
                "account": session.principal.login,
                "sender": made.sender,
                "recipients": len(made.recipients),
                "size": email.size,
                "message_id": shown,
            },
        )
        return record(sent.submission)

    async def _sources(self, values: Json) -> tuple[Identity, Email]:
        """Return the identity and the email of a new submission."""
        session = self.session
        number = id_value(IdKind.EMAIL, values["emailId"])
        found: Mapping[EmailId, Email] = {}
        places = await messages.memberships(session.mail, session.account, [number or 0])
        # an email that is in no mailbox without \\Deleted is not there for JMAP
        if any(not place.flags.bits & DELETED for rows in places.values() for place in rows):
            found = await messages.emails(session.mail, session.account, [number or 0])
        wrong = [] if found else ["emailId"]
        identity_id = id_value(IdKind.IDENTITY, values["identityId"])
        try:
            identity = await identities.get(session.mail, session.account, identity_id or 0)
        except errors.NotFound:
            raise invalid_properties(["identityId", *wrong], "there is no such object") from None
        if wrong:
            raise invalid_properties(wrong, "there is no such email")
        return identity, next(iter(found.values()))

    async def _envelope(
        self, identity: Identity, original: Original, asked: Envelope | None, shown: str
    ) -> sending.Envelope:
        """Return the envelope, made from the message where none was given."""
        mail, account = self.session.mail, self.session.account
        paths = asked.rcpt_to if asked is not None else tuple(map(Path, original.recipients()))
        recipients = await sending.forward_paths(mail, tuple(map(_recipient, paths)))
        given = None if asked is None else asked.mail_from.email
        sender = await sending.reverse_path(mail, account, identity, original, given)
        parameters = {} if asked is None else asked.mail_from.parameters
        all_ascii = sender.isascii() and all(each.text.isascii() for each in recipients)
        release_at = sending.released(mail, parameters.get("HOLDFOR"), parameters.get("HOLDUNTIL"))
        return sending.Envelope(
            account,
            sender,
            recipients,
            self.session.id,
            smtputf8=not all_ascii or original.needs_utf8(),
            body="8BITMIME" if original.is_8bit() else "7BIT",
            envid=xtext(parameters.get("ENVID", shown)),
            ret=parameters.get("RET"),
            release_at=release_at,
            deliver_by=_deliver_by(mail, parameters.get("BY"), release_at),
            priority=min(parameters.get("MT-PRIORITY", 0), sending.MAX_PRIORITY),
            require_tls=parameters.get("REQUIRETLS", False),
        )

    async def current(self, ids: Sequence[str]) -> Mapping[str, Json]:
        """Return submissions as /get shows them."""
        return {each: record(found) for each, found in (await self._found(ids)).items()}

    async def _found(self, ids: Sequence[str]) -> dict[str, Submission]:
        numbers = [id_value(IdKind.SUBMISSION, each) for each in ids]
        found = await submissions.get(
            self.session.mail,
            self.session.account,
            [each for each in numbers if each is not None],
        )
        by_text = {submission_text(each): submission for each, submission in found.items()}
        self.emails.update(
            (each, email_text(submission.email_id)) for each, submission in by_text.items()
        )
        return by_text

    async def change(self, changes: Mapping[str, Json]) -> Mapping[str, Json | SetError | None]:
        """Take submissions back; nothing else of them can change."""
        results: dict[str, Json | SetError | None] = {}
        found = await self._found(list(changes))
        for each, values in changes.items():
            if each not in found:
                results[each] = SetError("notFound")
                continue
            if values != {"undoStatus": CANCELED}:
                results[each] = invalid_properties(
                    ["undoStatus"], 'undoStatus can only become "canceled"'
                )
                continue
            try:
                async with self.session.mail.change(self.session.account) as change:
                    taken = await submissions.cancel(change, found[each])
            except errors.InUse as error:
                results[each] = SetError("cannotUnsend", str(error))
                continue
            self.modseqs.add(change.modseq)
            results[each] = {"deliveryStatus": record(taken)["deliveryStatus"]}
        return results

    async def destroy(self, ids: Sequence[str]) -> Mapping[str, SetError | None]:
        """Forget submissions; what they send is sent all the same."""
        found = await self._found(ids)
        if found:
            async with self.session.mail.change(self.session.account) as change:
                await submissions.destroy(change, [each.id for each in found.values()])
            if change.entries:
                self.modseqs.add(change.modseq)
        return {each: None if each in found else SetError("notFound") for each in ids}


def _recipient(path: Path) -> sending.Recipient:
    orcpt = path.parameters.get("ORCPT")
    if orcpt is not None:
        kind, _, address = orcpt.partition(";")
        orcpt = f"{kind};{xtext(address)}"
    return sending.Recipient(path.email, "", (), path.parameters.get("NOTIFY"), orcpt)


def _json(made: sending.Envelope, asked: Envelope | None) -> str:
    """Return the envelope as it is shown: as given, or as it was made."""
    if asked is None:
        rcpt_to = tuple(Path(each.text) for each in made.recipients)
        asked = Envelope(Path(made.sender), rcpt_to)
    return orjson.dumps(asked.json()).decode()


def _invalid_email(*names: str) -> Callable[[Session, Unsendable], SetError]:
    return lambda session, error: SetError("invalidEmail", properties=names)


# RFC 8621 §7.5
REFUSALS: dict[Flaw, Callable[[Session, Unsendable], SetError]] = {
    Flaw.NO_HEADER: _invalid_email("headers"),
    Flaw.NO_AUTHOR: _invalid_email("from"),
    Flaw.NO_SENDER: _invalid_email("from", "sender"),
    Flaw.AUTHOR_NOT_YOURS: lambda session, error: SetError("forbiddenFrom"),
    Flaw.SENDER_NOT_YOURS: lambda session, error: SetError("forbiddenMailFrom"),
    Flaw.TOO_LARGE: lambda session, error: SetError(
        "tooLarge", maxSize=session.mail.config.smtp.max_message_size
    ),
    Flaw.NO_RECIPIENTS: lambda session, error: SetError("noRecipients"),
    Flaw.TOO_MANY_RECIPIENTS: lambda session, error: SetError(
        "tooManyRecipients", maxRecipients=session.mail.config.smtp.max_recipients
    ),
    Flaw.HELD_TWICE: lambda session, error: invalid_properties(
        ["envelope"], "HOLDFOR and HOLDUNTIL exclude each other"
    ),
    Flaw.BACK_BEFORE_RELEASE: lambda session, error: invalid_properties(
        ["envelope"], "the message would go back before it is released"
    ),
    Flaw.HELD_TOO_LONG: lambda session, error: invalid_properties(
        ["envelope"], f"mail is held for at most {session.limits.max_delay} seconds"
    ),
    Flaw.ACCOUNT_HELD: lambda session, error: SetError(
        "forbiddenToSend", "sending is held for this account; ask who runs the server"
    ),
    Flaw.TOO_FAST: lambda session, error: SetError("rateLimit"),
    Flaw.BAD_RECIPIENTS: lambda session, error: SetError(
        "invalidRecipients", invalidRecipients=list(error.items)
    ),
}
