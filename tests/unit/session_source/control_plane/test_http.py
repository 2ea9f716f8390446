import asyncio

import httpx
import pytest

from relayd.session_source.control_plane.link import LinkError
from relayd.session_source.control_plane.requests import HttpClient


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("7", 7.0), ("-1", 0.0), ("1e9", 300.0), ("inf", 300.0), ("nan", None), ("soon", None), ("", None)],
)
def test_how_long_the_control_plane_wants_to_be_left_alone(
    monkeypatch: pytest.MonkeyPatch, said: str, seconds: float | None
) -> None:
    busy = httpx.MockTransport(lambda _: httpx.Response(503, headers={"retry-after": said}))
    make = httpx.AsyncClient
    monkeypatch.setattr(httpx, "AsyncClient", lambda **options: make(**options, transport=busy))

    async def ask() -> None:
        await HttpClient("http://control-plane", lambda: None, 1.0).request("GET", "/")

    with pytest.raises(LinkError) as caught:
        asyncio.run(ask())
    assert caught.value.retry_after_seconds == seconds
