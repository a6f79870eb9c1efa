"""What all engines have in common: addresses in turn, limits, and what a failure comes to."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from mailserver.antispam.engines.link import EngineFailed, told
from mailserver.antispam.evidence import Finding, Inquiry
from mailserver.antispam.verdict import Action
from mailserver.config import Engine as Settings

CHECK_TIMEOUT = 5.0  # seconds for an engine to say what it is
REST_AFTER_FAILURE = 30.0  # seconds in which an address that failed is asked last


class TooLargeForEngine(Exception):
    """The engine takes no messages of that size."""


class Engine(ABC):
    """A program beside this server that looks at messages: a `Judge`."""

    def __init__(self, settings: Settings, hostname: str) -> None:
        """Take its settings, and the name of this server; nothing is opened before it is asked."""
        self.settings = settings
        self.hostname = hostname
        self.addresses = tuple(settings.address.split())
        self._failed_at: dict[str, float] = {}

    @property
    def name(self) -> str:
        """Return the name of the check in findings, traces and metrics."""
        return self.settings.label

    async def judge(self, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        """Ask the engine; a failure is a finding too, and what follows from it is configured."""
        started = time.perf_counter()
        try:
            finding = await self._judge(inquiry, findings)
        except TooLargeForEngine:
            reason = f"not looked at: {len(inquiry.raw)} octets are too many"
            finding = Finding(self.name, "none", reason)
        except EngineFailed as error:
            demand = Action.DEFER if self.settings.on_failure == "defer" else None
            finding = Finding(self.name, "error", str(error), demand=demand)
        return replace(finding, seconds=time.perf_counter() - started)

    async def _judge(self, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        if len(inquiry.raw) > self.settings.max_size:
            raise TooLargeForEngine
        end = asyncio.get_running_loop().time() + self.settings.timeout
        order = self._in_turn()
        failure = EngineFailed("no address")
        for left, address in zip(range(len(order), 0, -1), order, strict=True):
            # one that stalls leaves time for the others
            share = (end - asyncio.get_running_loop().time()) / left
            try:
                async with told(address), asyncio.timeout(share):
                    finding = await self.ask(address, inquiry, findings)
            except EngineFailed as error:
                self._failed_at[address] = time.monotonic()
                failure = error
            else:
                self._failed_at.pop(address, None)
                return finding
        raise failure

    def _in_turn(self) -> list[str]:
        """Return the addresses in their order, those that failed just now behind the others."""
        recently = time.monotonic() - REST_AFTER_FAILURE
        return sorted(self.addresses, key=lambda each: self._failed_at.get(each, 0) > recently)

    async def check(self) -> list[tuple[str, str]]:
        """Ask every address what it is; return each with what is wrong there, or nothing."""
        return [(address, await self._problem(address)) for address in self.addresses]

    async def _problem(self, address: str) -> str:
        try:
            async with told(address), asyncio.timeout(CHECK_TIMEOUT):
                await self.probe(address)
        except EngineFailed as error:
            return f"no {self.settings.kind} answers there: {error}"
        return ""

    def virus(self, names: Sequence[str]) -> Finding:
        """Return the finding that a message carries something bad."""
        demand = Action(self.settings.on_virus)
        return Finding(self.name, "virus", ", ".join(names), demand=demand)

    @abstractmethod
    async def ask(self, address: str, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        """Show a message to the engine at one address.

        OSError, EOFError, ValueError and EngineFailed when it cannot answer.
        """

    @abstractmethod
    async def probe(self, address: str) -> None:
        """Make sure that what listens there speaks the protocol; raises what `ask` raises."""

    async def close(self) -> None:
        """Close what is open."""
        return
