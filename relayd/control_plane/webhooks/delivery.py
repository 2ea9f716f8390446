"""Tells a game's backend that its session is ready, or has failed: at least once.

Also over restarts of this program and outages of theirs.

A call that fails is made again after 5 s, 10 s, 20 s … up to 5 min apart, each ±25 % so that a backend that comes back
does not get all calls at once; after an hour it is given up. Each call has a `Webhook-Id` that stays the same, to tell
a repeated one by. `Webhook-Signature: v1=<hex>` is the HMAC-SHA256 of the raw body; the key is the secret's text.
"""

import asyncio
import hashlib
import hmac
import random
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable

import httpx
import structlog

from relayd.control_plane.background import report
from relayd.control_plane.clock import steady_time
from relayd.control_plane.errors import StoreUnavailableError
from relayd.control_plane.store.contract import Delivery, OutboxStore
from relayd.control_plane.webhooks import guard as webhook_guard

FIRST_RETRY = 5.0
LONGEST_RETRY = 300.0
GIVE_UP_AFTER = 3600.0
ATTEMPT_TIMEOUT = 10.0
STORE_RETRY = 5.0
"""Seconds, all of them."""

AT_ONCE = 128
"""Calls under way together."""

AT_ONE_HOST = 8
"""Calls under way to one host, so that a backend that hangs, with however many calls to make, holds up no other."""

log = structlog.get_logger()


class RefusedTargetError(Exception):
    """The target's address may not be called; trying again does not help."""


class Webhooks:
    """The calls that the store's outbox holds, made when they are due."""

    OUTCOMES = ("delivered", "failed", "given_up", "refused")

    def __init__(
        self,
        store: OutboxStore,
        secret: str | None,
        *,
        allow_private: bool,
        clock: Callable[[], float] = steady_time,
    ) -> None:
        """Without a secret, the one made with the store signs. The clock gives Unix time in seconds."""
        self.allow_private = allow_private
        self._store = store
        self._secret = secret
        self._clock = clock
        self._wake = asyncio.Event()
        self._tls = ssl.create_default_context()
        self.outcomes = dict.fromkeys(self.OUTCOMES, 0)
        """Calls since the start, by what became of them."""
        self._calls: dict[str, asyncio.Task[None]] = {}
        self._hosts: Counter[str] = Counter()
        """Calls under way to each."""

    def wake(self) -> None:
        """There may be new calls to make."""
        self._wake.set()

    async def run(self) -> None:
        """Makes calls as they fall due, until cancelled."""
        try:
            while True:
                self._wake.clear()
                try:
                    pause = await self._begin_due()
                except StoreUnavailableError as error:
                    log.error("webhooks waiting for store", reason=str(error))
                    pause = STORE_RETRY
                await self._sleep(pause)
        finally:
            for call in self._calls.values():
                call.cancel()
            await asyncio.gather(*self._calls.values(), return_exceptions=True)

    async def _begin_due(self) -> float | None:
        """Begins the calls that are due; returns the seconds until the next will be, None when none is in sight."""
        now = self._clock()
        while True:
            # A call under way is still in the outbox, so that it is made again should this process die. It may also end
            # while the outbox is read, and must not be taken for a new one then.
            under_way = set(self._calls)
            upcoming = await self._store.upcoming(AT_ONCE + 1, self._busy_hosts())
            passed_over = False
            for delivery in upcoming:
                if delivery.webhook_id in under_way:
                    continue
                if len(self._calls) >= AT_ONCE:
                    return None  # the next call to end wakes us
                if self._hosts[delivery.host] >= AT_ONE_HOST:
                    passed_over = True
                    continue
                if delivery.due_at > now:
                    return delivery.due_at - now
                self._hosts[delivery.host] += 1
                self._calls[delivery.webhook_id] = asyncio.create_task(self._attempt(delivery), name="webhook")
            if not passed_over:
                return None
            # Those of a host that is busy by now may have stood before all others: once more, without them.

    def _busy_hosts(self) -> list[str]:
        """Hosts that get no further call before one has ended."""
        return [host for host, calls in self._hosts.items() if calls >= AT_ONE_HOST]

    async def _sleep(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _attempt(self, delivery: Delivery) -> None:
        """One call, and what becomes of it."""
        try:
            await self._try(delivery)
        except StoreUnavailableError as error:
            # It stays in the outbox as it is: made once more rather than once too few.
            log.error("webhooks waiting for store", reason=str(error))
            await asyncio.sleep(STORE_RETRY)
        except Exception as error:  # noqa: BLE001 - it would end in silence, and the call be made again at once
            report("webhook failed", error, webhook=delivery.webhook_id, session=delivery.session_id)
            await asyncio.sleep(STORE_RETRY)
        finally:
            del self._calls[delivery.webhook_id]
            self._hosts[delivery.host] -= 1
            self._hosts += Counter()  # keeps what is above zero
            self._wake.set()

    async def _try(self, delivery: Delivery) -> None:
        """The store before the log, always: what cannot be logged is done all the same."""
        about = {"webhook": delivery.webhook_id, "session": delivery.session_id, "attempt": delivery.attempts + 1}
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                status = await self._call(delivery)
            reason = f"answered {status}"
        except RefusedTargetError as error:
            await self._store.settle(delivery.webhook_id)
            self.outcomes["refused"] += 1
            log.warning("webhook refused", reason=str(error), **about)
            return
        except TimeoutError:
            reason = f"no answer within {ATTEMPT_TIMEOUT:.0f} s"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            # ValueError: a host name that IDNA cannot encode.
            reason = str(error) or type(error).__name__
        except StoreUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not keep the call from being given up
            report("webhook failed", error, **about)
            reason = type(error).__name__
        else:
            if 200 <= status < 300:
                await self._store.settle(delivery.webhook_id)
                self.outcomes["delivered"] += 1
                log.info("webhook delivered", **about)
                return
        await self._again(delivery, reason, about)

    async def _again(self, delivery: Delivery, reason: str, about: dict[str, object]) -> None:
        now = self._clock()
        if now - delivery.created_at >= GIVE_UP_AFTER:
            await self._store.settle(delivery.webhook_id)
            self.outcomes["given_up"] += 1
            log.warning("webhook given up", reason=reason, **about)
            return
        pause = retry_pause(delivery.attempts, random.random())  # noqa: S311 - spreads load only
        await self._store.postpone(delivery.webhook_id, now + pause)
        self.outcomes["failed"] += 1
        log.info("webhook failed", reason=reason, again_in=round(pause, 1), **about)

    async def _call(self, delivery: Delivery) -> int:
        """POSTs the body to the address that was checked, and returns the status; the answer's body is not read."""
        url = httpx.URL(delivery.url)
        body = delivery.body.encode()
        secret = self._secret or await self._store.webhook_secret()
        address = await self._checked_address(url, delivery.attempts)
        headers = {
            "Host": url.netloc.decode(),
            "Content-Type": "application/json",
            "User-Agent": "relayd",
            "Webhook-Id": delivery.webhook_id,
            "Webhook-Timestamp": str(int(time.time())),  # which the receiver compares with its own
            "Webhook-Signature": signature(secret, body),
        }
        # A client for each call, so that no backend's cookies reach another. No proxy from the environment: it would
        # resolve the name again, and connect wherever that leads.
        async with (
            httpx.AsyncClient(
                trust_env=False, follow_redirects=False, timeout=ATTEMPT_TIMEOUT, verify=self._tls
            ) as client,
            client.stream(
                "POST",
                url.copy_with(host=address),
                content=body,
                headers=headers,
                extensions={"sni_hostname": url.host},
            ) as answer,
        ):
            return answer.status_code

    async def _checked_address(self, url: httpx.URL, attempts: int) -> str:
        """Resolves the host once; the name is not looked up again, so that it cannot be another address by then.

        Of several addresses each attempt takes the next, so that one dead address is no dead backend.
        """
        port = url.port or (443 if url.scheme == "https" else 80)
        resolve = asyncio.get_running_loop().getaddrinfo
        found = await resolve(url.host, port, type=socket.SOCK_STREAM)
        addresses = [str(sockaddr[0]).partition("%")[0] for *_, sockaddr in found]
        if not self.allow_private and any(map(webhook_guard.refused, addresses)):
            raise RefusedTargetError(webhook_guard.reason(url.host))
        return addresses[attempts % len(addresses)]


def signature(secret: str, body: bytes) -> str:
    """Value of the `Webhook-Signature` header for that body."""
    return f"v1={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def retry_pause(attempts: int, chance: float) -> float:
    """Seconds until the next attempt after that many failed before this one; chance is in 0..1."""
    return min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** min(attempts, 16)) * (0.75 + chance / 2)
