"""XCLIENT, for relays that are trusted to say for whom they speak."""

import logging

from mailserver.errors import AuthenticationFailed
from mailserver.smtp.commands import hello
from mailserver.smtp.protocol import replies
from mailserver.smtp.protocol.replies import Refused, Reply
from mailserver.smtp.protocol.xclient import Xclient, parse
from mailserver.smtp.session import Session

log = logging.getLogger(__name__)

__all__ = ["parse", "xclient"]

NOT_ALLOWED = Reply(550, "5.7.0", "You are not a relay that may speak for others")
NO_SUCH_LOGIN = Reply(501, "5.7.8", "There is no such login")


async def xclient(session: Session, command: Xclient) -> Reply:
    """Take the client for the one that the relay names, and begin anew."""
    if not session.relay_is_trusted:
        return NOT_ALLOWED
    if session.envelope is not None:
        return replies.BAD_SEQUENCE
    if command.helo:
        hello.parse(command.helo)
    principal = None
    if command.login and session.policy.authentication:
        try:
            principal = await session.authenticator.named(command.login)
        except AuthenticationFailed:
            return NO_SUCH_LOGIN
    session.begin_anew()
    session.principal = principal
    session.peer = command.address or session.peer
    if command.helo:
        session.helo, session.esmtp = command.helo, command.esmtp is not False
    log.info(
        "client named by a relay",
        extra={"session": session.id, "peer": session.peer, "relay": session.relay},
    )
    try:
        await session.policy.connected(session)
    except Refused as refusal:
        return Reply(421, "4.7.0", refusal.reply.text)
    return replies.greeting(session.hostname, session.protocol)
