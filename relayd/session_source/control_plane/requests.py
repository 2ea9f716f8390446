"""Requests to a control plane: bounded in time and size, every failure a `LinkError` of one sentence."""

import asyncio
import email.utils
import json
import math
import ssl
import time
from collections.abc import Callable
from typing import Any

import httpx

from relayd.errors import ConfigurationError
from relayd.event_loop.threads import within
from relayd.session_source.control_plane.link import LinkError

_KEY_SECONDS = 10.0
"""For the file of the key, which may be on a disk that hangs."""
_MOST_BYTES = 64 << 20
_MOST_MESSAGE = 300
_MOST_RETRY_AFTER_SECONDS = 300.0


class Answer:
    """Status, headers and the decoded JSON body of an answer."""

    def __init__(self, status: int, headers: httpx.Headers, body: Any) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class HttpClient:
    """A control plane's REST API.

    Args:
        url: its base.
        read_key: gives the API key, or None to send none; asked at first, and again after it was refused.
        timeout_seconds: from request to the last byte, beyond what the control plane was asked to hold back.
        trust: which certificates are trusted; None for those the system trusts.
        transport: what carries requests; None for the network.
    """

    def __init__(
        self,
        url: str,
        read_key: Callable[[], str | None],
        timeout_seconds: float,
        *,
        trust: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._read_key = read_key
        self._key = read_key()
        self._url = url
        self._timeout_seconds = timeout_seconds
        # One bound for all of a request is set below: httpx has only bounds for its parts.
        self._client = httpx.AsyncClient(
            base_url=url, timeout=httpx.Timeout(None), verify=trust or True, transport=transport
        )

    async def close(self) -> None:
        """Closes connections."""
        await self._client.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        wait_seconds: float = 0.0,
        accept: tuple[int, ...] = (200,),
        params: dict[str, str | int | float] | None = None,
        json: object = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Asks and reads the whole answer.

        Raises:
            LinkError: no answer in time, one with a status that is not in ``accept``, or one that is no JSON.
        """
        authorization = {"authorization": f"token {self._key}"} if self._key else {}
        within_seconds = wait_seconds + self._timeout_seconds
        try:
            async with asyncio.timeout(within_seconds):
                async with self._client.stream(
                    method, path, params=params, json=json, headers={**(headers or {}), **authorization}
                ) as response:
                    body = await _read(response)
        except TimeoutError:
            raise LinkError(f"{self._url}: no answer within {within_seconds:g} s") from None
        except httpx.HTTPError as error:
            raise LinkError(f"{self._url}: {str(error) or type(error).__name__}") from None
        if response.status_code in (401, 403):
            raise LinkError(await self._complain_of_key(path, response.status_code))
        if response.status_code not in accept:
            raise LinkError(
                f"{self._url}{path}: answered {response.status_code}{_message(body)}", _retry_after(response.headers)
            )
        return Answer(response.status_code, response.headers, _decode(self._url, path, body) if body else None)

    async def _complain_of_key(self, path: str, status: int) -> str:
        """Says what is wrong with the key, and reloads it from its file."""
        had_key = self._key is not None
        try:
            self._key = await within(_KEY_SECONDS, self._read_key)
        except TimeoutError:
            return f"{self._url}{path}: the key is not accepted, and the file of another cannot be read in time"
        except ConfigurationError as error:
            return str(error)
        if not had_key:
            return f"{self._url}{path}: wants a key; name its file in source.token_file"
        if status == 401:
            return f"{self._url}{path}: the key is not accepted; check source.token_file"
        return f"{self._url}{path}: the key lacks a scope; a relay needs nodes:write"


async def _read(response: httpx.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > _MOST_BYTES:
            raise LinkError(f"{response.url.path}: the answer is longer than {_MOST_BYTES >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


def _decode(url: str, path: str, body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise LinkError(f"{url}{path}: the answer is not JSON") from None


def _message(body: bytes) -> str:
    """What the control plane says to it, if it says something."""
    try:
        message = json.loads(body)["message"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""
    return f": {message[:_MOST_MESSAGE]}" if isinstance(message, str) else ""


def _retry_after(headers: httpx.Headers) -> float | None:
    """RFC 9110, 10.2.3: seconds or a date. Bounded, so that no answer can silence a relay for good."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    if math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), _MOST_RETRY_AFTER_SECONDS)
