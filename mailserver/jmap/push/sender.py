"""Tells devices of changes: each shard of the accounts is one process's, by a lease.

What a device was told last is noted when its push service has taken the message. A process that
dies loses nothing thereby: whoever takes its shards over begins where the notes end, and at worst
says something twice.
"""

import asyncio
import logging
import secrets
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import orjson

from mailserver.errors import MailError
from mailserver.events import Subscription, pushes_of
from mailserver.jmap.protocol.ids import push_text
from mailserver.jmap.protocol.push import known_types, state_change, verification
from mailserver.jmap.protocol.push_keys import MAX_PLAINTEXT, SALT
from mailserver.jmap.push.client import Answer, PushClient
from mailserver.jmap.push.pace import Pace
from mailserver.jmap.push.vapid import ServerKey
from mailserver.mail import push
from mailserver.mail.context import Mail
from mailserver.mail.push import SHARDS, PushKeys, PushSubscription
from mailserver.mail.sharing import Shares
from mailserver.mail.watching import States, Watch
from mailserver.model import AccountId, Principal

if TYPE_CHECKING:
    from mailserver.jmap.protocol.webpush import Claims

log = logging.getLogger(__name__)

Json = dict[str, Any]

LEASE_TIME = timedelta(seconds=30)
ROUND = 10.0  # seconds between two looks at leases, and at all subscriptions
GAP = 0.25  # seconds between two messages to one device: what happens meanwhile goes together
PARALLEL = 32  # messages on their way at once
PARALLEL_OF_ONE = 4  # of one account: slow push services of one hold up no other
MAX_ASKED, ASKED_TIME = 60, 3600.0  # verifications of an account in so many seconds
TTL = 86_400  # seconds that a push service keeps a message (RFC 8030 §5.2)
FIRST_RETRY, LAST_RETRY = 5.0, 3600.0  # seconds
GIVE_UP = 24  # failures in a row, about a day
CLAIM_TIME = 12 * 3600  # seconds that a signature is good for

TAKEN = range(200, 300)
GONE = (404, 410)  # RFC 8030 §7.3


class Pusher:
    """Sends for the shards that this process holds."""

    def __init__(self, mail: Mail, shares: Shares, client: PushClient, key: ServerKey) -> None:
        self.mail = mail
        self.shares = shares
        self._client = client
        self._key = key
        self._devices: dict[tuple[AccountId, int], _Device] = {}
        self._gate = asyncio.Semaphore(PARALLEL)
        # each lives as long as somebody sends or waits
        self._gates: WeakValueDictionary[AccountId, asyncio.Semaphore] = WeakValueDictionary()
        self._woken = asyncio.Event()
        self.asking = Pace(MAX_ASKED, ASKED_TIME, time.monotonic)

    async def run(self, owner: str) -> None:
        """Hold shards and tell devices until cancelled."""
        told: list[Subscription] = []
        for shard in range(SHARDS):
            subscription = self.mail.events.subscribe(pushes_of(shard))
            subscription.wake = self._woken.set
            told.append(subscription)
        try:
            while True:
                self._woken.clear()
                try:
                    await self._round(owner)
                except MailError as error:
                    self.mail.metrics.background_failures.labels("push").inc()
                    log.warning("push: round failed", extra={"error": str(error)})
                    self._hold({})
                try:
                    async with asyncio.timeout(ROUND):
                        await self._woken.wait()
                except TimeoutError:
                    continue
        finally:
            self._hold({})
            for subscription in told:
                self.mail.events.unsubscribe(subscription)

    async def _round(self, owner: str) -> None:
        now = self.mail.now()
        own = await push.take_shards(self.mail, owner, now, LEASE_TIME)
        wanted: dict[tuple[AccountId, int], tuple[Principal, PushSubscription]] = {}
        for principal, each in await push.of_shards(self.mail, own):
            wanted[each.account_id, each.id] = principal, each
        self._hold(wanted)

    def _hold(
        self, wanted: dict[tuple[AccountId, int], tuple[Principal, PushSubscription]]
    ) -> None:
        """Send for these subscriptions, and for no others."""
        for key, device in list(self._devices.items()):
            found = wanted.get(key)
            if found is None or device.is_other(found[1]) or device.task.done():
                device.task.cancel()
                del self._devices[key]
        for key, (principal, each) in wanted.items():
            if key not in self._devices:
                self._devices[key] = _Device(self, principal, each)

    async def deliver(self, subscription: PushSubscription, message: Json) -> Answer:
        """Send one message to a push service."""
        body = orjson.dumps(message)
        headers = {
            "TTL": str(TTL),
            "Content-Type": "application/json",
            "Authorization": self._key.signer().authorization(self._claims(subscription.url)),
        }
        if subscription.keys is not None:
            headers["Content-Type"] = "application/octet-stream"
            headers["Content-Encoding"] = "aes128gcm"
            body = _encrypted(body, subscription.keys)
        own = self._gates.setdefault(subscription.account_id, asyncio.Semaphore(PARALLEL_OF_ONE))
        async with own, self._gate:
            answer = await self._client.post(subscription.url, body, headers)
        outcome = "sent" if answer.status in TAKEN else "failed"
        self.mail.metrics.pushes.labels(outcome).inc()
        return answer

    def _claims(self, url: str) -> "Claims":
        from mailserver.jmap.protocol.webpush import Claims

        parts = urlsplit(url)
        # RFC 8292 §2: the origin, without a port that is the default
        origin = f"{parts.scheme}://{parts.netloc.removesuffix(':443')}"
        expires = int(self.mail.now().timestamp()) + CLAIM_TIME
        contact = self.mail.config.push.contact
        hostname = self.mail.config.server.hostname
        return Claims(origin, expires, contact or f"mailto:postmaster@{hostname}")


def _encrypted(body: bytes, keys: PushKeys) -> bytes:
    from mailserver.jmap.protocol.webpush import encrypt, new_key

    return encrypt(
        body,
        p256dh=keys.p256dh,
        auth=keys.auth,
        salt=secrets.token_bytes(SALT),
        key=new_key(),
    )


class _Device:
    """One subscription, and the task that follows it."""

    def __init__(
        self, pusher: "Pusher", principal: Principal, subscription: PushSubscription
    ) -> None:
        self._pusher = pusher
        self._mail = pusher.mail
        self._principal = principal
        self._subscription = subscription
        self._failures = subscription.failures
        self.task = asyncio.create_task(self._run())

    def is_other(self, subscription: PushSubscription) -> bool:
        """Tell whether the subscription is not what this one follows any more."""
        own = self._subscription
        return (own.verified, own.types, own.expires_at) != (
            subscription.verified,
            subscription.types,
            subscription.expires_at,
        )

    async def _run(self) -> None:
        left = (self._subscription.expires_at - self._mail.now()).total_seconds()
        try:
            async with asyncio.timeout(max(0.0, left)):
                await self._wait_for_attempt()
                if self._subscription.verified:
                    await self._follow()
                elif not self._subscription.told:
                    await self._ask()
        except TimeoutError:
            return  # it has expired
        except _Gone:
            log.info("push subscription is gone", extra={"account": self._principal.login})
        except MailError as error:  # the next round begins anew
            log.warning("push: the store does not answer", extra={"error": str(error)})
        except Exception:
            log.exception("push failed", extra={"account": self._principal.login})

    async def _wait_for_attempt(self) -> None:
        due = self._subscription.attempt_at
        if due is not None:
            await asyncio.sleep(max(0.0, (due - self._mail.now()).total_seconds()))

    async def _ask(self) -> None:
        """Send the code that shows that whoever subscribed gets the messages (RFC 8620 §7.2.2)."""
        own = self._subscription
        # anybody can subscribe in the name of anybody: nobody is asked without end
        await asyncio.sleep(self._pusher.asking.delay(own.account_id))
        message = verification(push_text(own.id), own.verification_code)
        while not await self._sent(message):
            pass
        await push.note_asked(self._mail, own)

    async def _follow(self) -> None:
        """Send what changes as it does."""
        own = self._subscription
        watch = Watch(self._mail, self._pusher.shares, self._principal, known_types(own.types))
        waiting: States = {}
        try:
            await watch.start(own.told)
            while True:
                if not waiting:
                    await watch.wait()
                for account, states in (await watch.changes()).items():
                    waiting[account] = {**waiting.get(account, {}), **states}
                if waiting and await self._all_sent(waiting):
                    waiting = {}
                    await push.note_told(self._mail, own, watch.place)
                    await asyncio.sleep(GAP)
        finally:
            watch.close()

    async def _all_sent(self, waiting: States) -> bool:
        if not await push.is_there(self._mail, self._subscription):
            raise _Gone  # the round that ends this task may come later than what is to be told
        for part in parts(waiting):
            if not await self._sent(state_change(part)):
                return False
        return True

    async def _sent(self, message: Json) -> bool:
        """Send a message; after a failure wait until the next attempt may be made."""
        answer = await self._pusher.deliver(self._subscription, message)
        if answer.status in TAKEN:
            self._failures = 0
            return True
        self._failures += 1
        if answer.status in GONE or self._failures >= GIVE_UP:
            await push.gone(self._mail, self._subscription)
            raise _Gone
        pause = retry_pause(self._failures, answer.retry_after)
        due = self._mail.now() + timedelta(seconds=pause)
        await push.note_failure(self._mail, self._subscription, due)
        await asyncio.sleep(pause)
        return False


class _Gone(Exception):
    pass


def retry_pause(failures: int, retry_after: float | None) -> float:
    """Return how many seconds to wait after so many failures in a row (RFC 8030 §8.4)."""
    pause = FIRST_RETRY * 2.0 ** min(failures - 1, 16)
    return min(max(pause, retry_after or 0.0), LAST_RETRY)


def parts(changed: States) -> list[States]:
    """Split what changed into messages that fit into one record each."""
    found: list[States] = [{}]
    for account, states in changed.items():
        more = {**found[-1], account: states}
        if found[-1] and len(orjson.dumps(state_change(more))) > MAX_PLAINTEXT:
            found.append({})
        found[-1][account] = states
    return found
