"""Which addresses webhooks may go to."""

import pytest

from relayd.control_plane.webhooks.delivery import retry_pause, signature
from relayd.control_plane.webhooks.guard import refused, refused_literal


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "192.88.99.1",
        "192.0.0.8", "::", "::1", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "fec0::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
        "2002:7f00:1::", "2001::1", "100::1",
    ],
)  # fmt: skip
def test_not_on_the_public_internet(address: str) -> None:
    assert refused(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2a00::1"]
)
def test_public(address: str) -> None:
    assert not refused(address)


def test_a_literal_is_refused_before_anything_is_stored() -> None:
    assert "10.0.0.1" in (refused_literal("http://10.0.0.1:8080/hook") or "")
    assert refused_literal("http://[::1]/hook")
    assert refused_literal("https://1.1.1.1/hook") is None
    assert refused_literal("https://localhost/hook") is None  # a name: looked at when it is resolved


def test_the_signature_is_hmac_sha256_of_the_raw_body() -> None:
    # RFC 4231, test case 2
    assert signature("Jefe", b"what do ya want for nothing?") == (
        "v1=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_retries_double_up_to_five_minutes_and_are_spread() -> None:
    assert [retry_pause(attempts, 0.5) for attempts in range(7)] == [5, 10, 20, 40, 80, 160, 300]
    assert retry_pause(10**6, 0.5) == 300
    assert (retry_pause(1, 0), retry_pause(1, 1)) == (7.5, 12.5)
