"""Requests to a control plane: bounded in time and size, every failure a `LinkError` of one sentence."""

import asyncio
import email.utils
import json
import time
from typing import Any

import httpx

from relayd.edge.source.control_plane.link import LinkError

_MOST_BYTES = 16 << 20
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
        key: the API key, or None to send none.
        timeout_seconds: from request to the last byte, beyond what the control plane was asked to hold back.
    """

    def __init__(self, url: str, key: str | None, timeout_seconds: float) -> None:
        headers = {"authorization": f"token {key}"} if key else {}
        self._url = url
        self._timeout_seconds = timeout_seconds
        # One bound for all of a request is set below: httpx has only bounds for its parts.
        self._client = httpx.AsyncClient(base_url=url, headers=headers, timeout=httpx.Timeout(None))

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
        within_seconds = wait_seconds + self._timeout_seconds
        try:
            async with asyncio.timeout(within_seconds):
                async with self._client.stream(method, path, params=params, json=json, headers=headers) as response:
                    body = await _read(response)
        except TimeoutError:
            raise LinkError(f"{self._url}: no answer within {within_seconds:g} s") from None
        except httpx.HTTPError as error:
            raise LinkError(f"{self._url}: {error or type(error).__name__}") from None
        if response.status_code not in accept:
            raise LinkError(_complaint(self._url, path, response.status_code), _retry_after(response.headers))
        return Answer(response.status_code, response.headers, _decode(self._url, path, body) if body else None)


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


def _complaint(url: str, path: str, status: int) -> str:
    if status == 401:
        return f"{url}{path}: the key is not accepted; check source.token_file"
    if status == 403:
        return f"{url}{path}: the key lacks a scope; a relay needs nodes:write"
    return f"{url}{path}: answered {status}"


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
        except ValueError:
            return None
    return min(max(seconds, 0.0), _MOST_RETRY_AFTER_SECONDS)
