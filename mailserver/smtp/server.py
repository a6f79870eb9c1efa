"""The SMTP listeners."""

import asyncio
import socket
import ssl

from mailserver import config, proxy
from mailserver.antispam.gate import OPEN, Gate
from mailserver.auth.credentials import Authenticator
from mailserver.mail.context import Mail
from mailserver.networks import NOWHERE, Networks
from mailserver.smtp.connection import LINGER, Connection
from mailserver.smtp.limits import Limits
from mailserver.smtp.policy.lmtp import LmtpPolicy
from mailserver.smtp.policy.mx import MxPolicy
from mailserver.smtp.policy.relay import RelayPolicy
from mailserver.smtp.policy.submission import SubmissionPolicy
from mailserver.smtp.shared import Kind, Shared

BACKLOG = 1024  # connections that the kernel holds until they are accepted

KINDS: dict[str, Kind] = {
    "mx": Kind(MxPolicy, pauses=True),
    "submission": Kind(SubmissionPolicy),
    "submissions": Kind(SubmissionPolicy, implicit_tls=True),
    "lmtp": Kind(LmtpPolicy),
    "relay": Kind(RelayPolicy),
}


class SmtpServer(Shared):
    """One listener and its connections; listeners given the same `limits` share them."""

    def __init__(
        self,
        *,
        mail: Mail,
        authenticator: Authenticator,
        tls: ssl.SSLContext | None,
        kind: str,
        limits: Limits | None = None,
        gate: Gate = OPEN,
        proxies: Networks = NOWHERE,
    ) -> None:
        """Take the checks of what arrives; an open gate takes mail as it comes.

        Peers in `proxies` name the client by the PROXY protocol.
        """
        super().__init__(
            mail=mail,
            authenticator=authenticator,
            tls=tls,
            kind=KINDS[kind],
            name=kind,
            limits=limits or Limits.of(mail.config.smtp),
            gate=gate,
        )
        self.proxies = proxies
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self, listener: config.Listener) -> tuple[str, int]:
        """Listen, and return the address and the port."""
        self._server = await asyncio.get_running_loop().create_server(
            self._factory(), listener.host, listener.port, backlog=BACKLOG
        )
        host, self.port = self._server.sockets[0].getsockname()[:2]
        return host, self.port

    async def accept(self, listening: socket.socket) -> asyncio.Server:
        """Also take connections from a socket of somebody else, who closes what is returned."""
        return await asyncio.get_running_loop().create_server(
            self._factory(), sock=listening, backlog=BACKLOG
        )

    def _factory(self) -> proxy.Factory:
        loop = asyncio.get_running_loop()
        return proxy.behind(lambda: Connection(self, loop), self.proxies)

    @property
    def busy(self) -> bool:
        """Whether anybody is connected."""
        return bool(self.open)

    async def stop(self, grace: float) -> None:
        """Stop listening; let messages under way be finished for `grace` seconds."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.open):
            connection.drain()
        tasks = [connection.task for connection in self.open if connection.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
        for connection in list(self.open):
            connection.abort()
        late = [task for task in tasks if not task.done()]
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=LINGER)
