"""One server: its sockets, its workers, and what they share."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mailserver import log as logs
from mailserver.app import terminal
from mailserver.app.assignment import Assignment, describe
from mailserver.app.backends import Embedded
from mailserver.config import Config, Listener
from mailserver.errors import MailError
from mailserver.runtime.workers import cores
from mailserver.runtime.workers.channel import Message
from mailserver.runtime.workers.sockets import Sockets
from mailserver.runtime.workers.supervisor import Plan, Supervisor

log = logging.getLogger(__name__)

LINGER = 5.0  # seconds in which a worker that is replaced still serves those who are connected
COMMAND = (sys.executable, "-P", "-m", "mailserver.app.worker")


class Node:
    """The workers of this machine and the sockets they share; SIGHUP replaces the workers."""

    def __init__(
        self,
        read: Callable[[], Config],
        embedded: Embedded | None = None,
        accounts: Path | None = None,
    ) -> None:
        """Read the configuration by `read`, now and at every reload.

        The workers use `embedded` services if they are given, and make the development accounts
        of the folder `accounts`.
        """
        self._read = read
        self._embedded = embedded
        self._accounts = accounts
        self._initial = True
        self._follows_terminal = False
        self.config = _resolved(read())
        self._sockets = Sockets.open(_listeners(self.config), self.config.server.workers)
        self._supervisor = Supervisor(self._plan())
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """Return host and port of each listener."""
        return self._sockets.addresses

    async def start(self) -> None:
        """Start the workers; return when all of them serve."""
        await self._supervisor.start()
        self._initial = False
        if self._embedded is not None:
            self._embedded.on_restart = self._services_changed
        self._follows_terminal = terminal.is_followed()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._asked_to_reload)

    async def stop(self) -> None:
        """Stop the workers, then close the sockets."""
        if self._reloading is not None:
            self._reloading.cancel()
            await asyncio.gather(self._reloading, return_exceptions=True)
        await self._supervisor.stop()
        self._sockets.close()

    async def reload(self) -> None:
        """Read the configuration again, and replace the workers by some that use it.

        When it cannot be used nothing changes, and the log says why.
        """
        before = self.config, self._sockets
        try:
            self.config = _resolved(self._read())
            slots = max(self.config.server.workers, self._sockets.slots)
            self._sockets = Sockets.open(_listeners(self.config), slots, self._sockets)
            logs.configure(self.config.log.format, self.config.log.level)
            await self._supervisor.replace(self._plan())
        except MailError as error:
            after, (self.config, self._sockets) = self._sockets, before
            after.close(but=self._sockets)
            log.error("not reloaded", extra={"error": str(error)})
            return
        before[1].close(but=self._sockets)
        log.info("reloaded", extra={"listeners": self.addresses})

    def _asked_to_reload(self) -> None:
        if self._follows_terminal and not terminal.is_there():
            log.info("the terminal was closed")
            os.kill(os.getpid(), signal.SIGTERM)
        elif self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._reload_as_asked())
        else:  # the one under way may have read the file before it was changed
            self._reload_again = True

    async def _reload_as_asked(self) -> None:
        self._reload_again = True
        while self._reload_again:
            self._reload_again = False
            log.info("reloading")
            await self.reload()

    def _plan(self) -> Plan:
        server = self.config.server
        return Plan(
            command=COMMAND,
            count=server.workers,
            sockets=self._sockets,
            assignment=self._assignment,
            patience=LINGER + server.stop_delay + server.grace,
            prefix=self.config.metrics.prefix,
        )

    def _assignment(self, slot: int) -> Message:
        return Assignment(
            slot=slot,
            config=self.config,
            descriptors=self._sockets.descriptors,
            services=self._services(),
            accounts=self._accounts if self._initial and slot == 0 else None,
            initial=self._initial,
        ).message()

    def _services(self) -> dict[str, Any] | None:
        if self._embedded is None:
            return None
        return describe(self._embedded.backends(), self._embedded.seaweedfs.data)

    async def _services_changed(self) -> None:
        self._supervisor.tell({"do": "use", "services": self._services()})


def _resolved(config: Config) -> Config:
    """Put the number of workers where 0 stands for that of the cores."""
    server = config.server.model_copy(update={"workers": config.server.workers or cores.usable()})
    return config.model_copy(update={"server": server})


def _listeners(config: Config) -> Mapping[str, Listener]:
    wanted = {name: getattr(config.listeners, name) for name in type(config.listeners).model_fields}
    return {name: listener for name, listener in wanted.items() if listener.enabled}
