"""rspamd: its HTTP protocol, /checkv2, with what is known of the client in header fields."""

import asyncio
from collections.abc import Mapping, Sequence

import aiohttp
import orjson
from multidict import CIMultiDict

from mailserver.antispam.engines.engine import Engine
from mailserver.antispam.engines.link import EngineFailed, clean
from mailserver.antispam.evidence import Finding, Inquiry, Symbol
from mailserver.antispam.verdict import Action

MAX_ANSWER = 1024 * 1024  # octets
MAX_SYMBOLS = 500
MOST_POINTS = 1e6
EXACT = 0.01
MAX_RECIPIENTS = 100  # it is told of: a few say what kind of message it is

ACTIONS = {
    "reject": Action.REJECT,
    "soft reject": Action.DEFER,
    "greylist": None,  # that is decided before DATA here
    "add header": Action.JUNK,
    "rewrite subject": Action.JUNK,
    "quarantine": Action.JUNK,
    "discard": Action.JUNK,  # nothing is lost
    "no action": None,
}


def reading(answer: bytes, weight: float) -> tuple[float, str, tuple[Symbol, ...]]:
    """Return the score, the action and the symbols of an answer; ValueError when it has none."""
    document = orjson.loads(answer)
    if not isinstance(document, dict):
        raise ValueError("no result")
    score, action = _points(document.get("score")), document.get("action")
    if not isinstance(action, str) or action not in ACTIONS:
        raise ValueError(f"unknown action {action}")
    found = document.get("symbols")
    symbols = []
    for name, each in list(found.items())[:MAX_SYMBOLS] if isinstance(found, dict) else ():
        about: Mapping[str, object] = each if isinstance(each, dict) else {}
        text = clean(str(about.get("description", "")))
        symbols.append(Symbol(clean(name, 100), _points(about.get("score", 0)) * weight, text))
    rest = score * weight - sum(each.score for each in symbols)
    if abs(rest) > EXACT:
        symbols.append(Symbol("REST", rest, "what is left of the score"))
    return score, action, tuple(symbols)


def _points(value: object) -> float:
    if not isinstance(value, int | float) or not abs(value) < MOST_POINTS:
        raise ValueError("a score is no number")
    return float(value)


class Rspamd(Engine):
    """Asks rspamd's normal worker, over connections that are kept."""

    _session: aiohttp.ClientSession | None = None

    async def ask(self, address: str, inquiry: Inquiry, findings: Sequence[Finding]) -> Finding:
        """Send a message, read the score, the symbols and the action.

        Over a kept connection first, which rspamd may have closed by now: then once more.
        """
        about = self._about(inquiry)
        try:
            answer = await self._answer(address, "POST", "/checkv2", inquiry.raw, about)
        except (OSError, EOFError):
            answer = await self._answer(address, "POST", "/checkv2", inquiry.raw, about)
        score, action, symbols = reading(answer, self.settings.weight)
        return Finding(
            self.name,
            "spam" if ACTIONS[action] is not None else "ham",
            f"score {score:g}, {action}",
            symbols,
            demand=ACTIONS[action] if self.settings.obey else None,
        )

    async def probe(self, address: str) -> None:
        """Ask for /ping, which it answers with pong."""
        answer = await self._answer(address, "GET", "/ping")
        if answer.strip() != b"pong":
            raise ValueError("/ping is not answered with pong")

    def _about(self, inquiry: Inquiry) -> CIMultiDict[str]:
        """Return what rspamd is told beside the message."""
        client = inquiry.client
        fields = CIMultiDict(
            {
                "IP": client.ip,
                "Helo": client.helo,
                "Hostname": client.name,
                "From": str(inquiry.sender or ""),
                "Queue-Id": inquiry.session,
                "MTA-Name": self.hostname,
                "TLS-Cipher": client.tls,
            }
        )
        for recipient in inquiry.recipients[:MAX_RECIPIENTS]:
            fields.add("Rcpt", str(recipient))
        return CIMultiDict((name, clean(value, 1000)) for name, value in fields.items() if value)

    async def _answer(
        self,
        address: str,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: CIMultiDict[str] | None = None,
    ) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        url = (address if "://" in address else f"http://{address}") + path
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as response:
                answer = bytearray()
                async for part in response.content.iter_any():
                    answer += part
                    if len(answer) > MAX_ANSWER:
                        raise ValueError("the answer is too long")
                if response.status != 200:
                    raise ValueError(f"HTTP status {response.status}")
                return bytes(answer)
        except aiohttp.ClientConnectorError as error:
            raise EngineFailed(f"{address}: {error.os_error.strerror or 'no connection'}") from None
        except aiohttp.ServerDisconnectedError:
            raise EOFError from None
        except aiohttp.ClientOSError as error:
            raise OSError(error.errno, error.strerror) from None
        except aiohttp.ClientError as error:
            raise ValueError(type(error).__name__) from None

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
            await asyncio.sleep(0)  # the transports end in the next round of the loop
