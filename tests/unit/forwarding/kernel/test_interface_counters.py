"""Which of a driver's counters tell what XDP programs sent, and what of it was lost."""

import pytest

from relayd.forwarding.kernel import ethtool, interface_counters
from relayd.forwarding.kernel.ethtool import DriverInfo
from relayd.forwarding.kernel.interface_counters import VETH, InterfaceCounters, Moved, positions_of

VETH_NAMES = [
    "peer_ifindex",
    *(f"rx_queue_0_{name}" for name in ("xdp_packets", "xdp_bytes", "drops", "xdp_redirect", "xdp_drops", "xdp_tx")),
    "rx_queue_0_xdp_tx_errors",
    "tx_queue_0_xdp_xmit",
    "tx_queue_0_xdp_xmit_errors",
]


@pytest.mark.parametrize(
    ("driver", "names", "sent", "lost"),
    [
        (
            VETH,
            VETH_NAMES,
            {"rx_queue_0_xdp_redirect", "rx_queue_0_xdp_tx", "tx_queue_0_xdp_xmit"},
            {"rx_queue_0_drops", "rx_queue_0_xdp_tx_errors", "tx_queue_0_xdp_xmit_errors"},
        ),
        (
            "mlx5_core",
            [
                *("rx_packets", "rx_xdp_drop", "rx_xdp_redirect", "rx_xdp_tx_xmit", "rx_xdp_tx_full", "rx_xdp_tx_err"),
                *("rx_xdp_tx_cqe", "tx_xdp_xmit", "tx_xdp_full", "tx_xdp_err", "tx_dropped"),
                *("rx0_xdp_tx_xmit", "rx0_xdp_tx_full", "rx1_xdp_tx_xmit", "rx1_xdp_tx_full"),
            ],
            {"rx_xdp_redirect", "rx_xdp_tx_xmit", "tx_xdp_xmit"},
            {"rx_xdp_tx_full", "rx_xdp_tx_err", "tx_xdp_full", "tx_xdp_err"},
        ),
        (
            "virtio_net",
            [
                *("rx_queue_0_drops", "rx_queue_0_xdp_tx", "rx_queue_0_xdp_redirects", "rx_queue_0_xdp_drops"),
                *("tx_queue_0_xdp_tx", "tx_queue_0_xdp_tx_drops", "tx_queue_1_xdp_tx_drops"),
            ],
            {"rx_queue_0_xdp_tx", "rx_queue_0_xdp_redirects", "tx_queue_0_xdp_tx"},
            {"tx_queue_0_xdp_tx_drops", "tx_queue_1_xdp_tx_drops"},
        ),
        (
            "mvneta",
            ["rx_xdp_redirect", "rx_xdp_pass", "rx_xdp_drop", "rx_xdp_tx", "rx_xdp_tx_errors", "tx_xdp_xmit_errors"],
            {"rx_xdp_redirect", "rx_xdp_tx"},
            {"rx_xdp_tx_errors", "tx_xdp_xmit_errors"},
        ),
        ("gve", ["rx_xdp_tx_errors[0]", "rx_xdp_tx_errors[1]"], set(), {"rx_xdp_tx_errors[0]", "rx_xdp_tx_errors[1]"}),
        ("igc", ["rx_packets", "tx_packets", "tx_dropped", "rx_errors"], set(), set()),
    ],
)
def test_they_are_found_by_their_names(driver: str, names: list[str], sent: set[str], lost: set[str]) -> None:
    found = positions_of(names, driver)
    assert ({names[at] for at in found.sent}, {names[at] for at in found.lost}) == (sent, lost)


class Driver:
    """What it and the interface count."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names = list(VETH_NAMES)
        self.counts = dict.fromkeys(self.names, 0)
        self.dropped = 0
        monkeypatch.setattr(ethtool, "driver_info", lambda _: DriverInfo(VETH, len(self.names)))
        monkeypatch.setattr(ethtool, "statistics_names", lambda _interface, count: self.names[:count])
        monkeypatch.setattr(ethtool, "statistics", lambda _interface, count: list(self.counts.values())[:count])
        monkeypatch.setattr(interface_counters, "dropped_by", lambda _: self.dropped)


def test_what_moved_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch)
    counters = InterfaceCounters("eth0")
    driver.counts["rx_queue_0_xdp_tx"] = 7
    assert counters.moved() == Moved(0, 0), "what was before is not ours"
    driver.counts["rx_queue_0_xdp_tx"] += 100
    driver.counts["rx_queue_0_xdp_tx_errors"] += 40
    driver.dropped += 40
    assert counters.moved() == Moved(100, 40), "the same losses, in two places"
    driver.dropped += 9
    assert counters.moved() == Moved(0, 9)
    driver.counts["rx_queue_0_drops"] += 8
    assert counters.moved() == Moved(0, 8)


def test_counters_that_begin_anew_or_change_their_number_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch)
    driver.counts["rx_queue_0_xdp_tx_errors"] = 1_000
    counters = InterfaceCounters("eth0")
    counters.moved()
    driver.counts["rx_queue_0_xdp_tx_errors"] = 10
    assert counters.moved() == Moved(0, 0)
    driver.names.append("rx_queue_1_xdp_tx_errors")
    driver.counts["rx_queue_1_xdp_tx_errors"] = 500
    assert counters.moved() == Moved(0, 0)
    driver.counts["rx_queue_1_xdp_tx_errors"] += 5
    assert counters.moved() == Moved(0, 5)


def test_a_driver_that_says_nothing_leaves_what_the_interface_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(monkeypatch)
    driver.names.clear()
    counters = InterfaceCounters("eth0")
    counters.moved()
    driver.dropped = 12
    assert counters.moved() == Moved(None, 12)


def test_of_this_host() -> None:
    assert ethtool.driver_info("none0") == DriverInfo("unknown", 0)
    assert InterfaceCounters("lo").moved() == Moved(None, 0)
    assert interface_counters.dropped_by("none0") == 0
