"""What /metrics says of sockets and of time, with a real relay."""

import socket
import time

from tests.integration import holding
from tests.integration.config import new_session
from tests.integration.conftest import StartRelay
from tests.integration.peers import OPENS_CONNECTION, VALID
from tests.integration.waiting import eventually

BURST = 3000


def test_added_latency_is_counted_where_the_forwarder_measures_it(start_relay: StartRelay) -> None:
    session = new_session("timed")
    relay = start_relay([session], {"relay": {"forwarder": "native"}})
    with relay.host(session) as host, relay.player(session) as player:
        assert (host.ping(), player.ping()) == (VALID, VALID)

        def timed() -> bool:
            player.say(OPENS_CONNECTION)
            host.hear()
            return relay.metrics()["relayd_added_latency_seconds_count", "sockets"] > 0

        # The first may still go through the engine.
        eventually(timed, "a datagram is timed")
    metrics = relay.metrics()
    buckets = [value for (name, *_), value in metrics.items() if name == "relayd_added_latency_seconds_bucket"]
    assert buckets == sorted(buckets)
    assert buckets[-1] == metrics["relayd_added_latency_seconds_count", "sockets"]
    assert metrics["relayd_added_latency_seconds_sum", "sockets"] > 0


def test_python_alone_does_not_measure_added_latency(start_relay: StartRelay) -> None:
    relay = start_relay([new_session("plain")], {"relay": {"forwarder": "python"}})
    assert ("relayd_added_latency_seconds_count", "sockets") not in relay.metrics()


def test_loop_delay_is_measured_all_the_time(start_relay: StartRelay) -> None:
    relay = start_relay([new_session("idle")])
    eventually(lambda: relay.metrics()["relayd_loop_delay_seconds_count",] >= 2, "the loop is measured")


def test_overflows_of_the_receive_queue_are_counted(start_relay: StartRelay) -> None:
    relay = start_relay([new_session("burst")], {"relay": {"receive_buffer_bytes": 0, "forwarder": "python"}})
    before = relay.metrics()["relayd_datagrams_total", "client", "too_short"]

    with holding.all_of(relay), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(BURST):
            sock.sendto(b"junk", relay.address("client"))

    def all_counted() -> bool:
        counted = relay.metrics()
        read = counted["relayd_datagrams_total", "client", "too_short"] - before
        lost = counted["relayd_receive_queue_overflows_total", "client"]
        return read > 0 and lost > 0 and read + lost == BURST

    eventually(all_counted, "what the queue held is read, and the rest counted as lost")
    metrics = relay.metrics()
    assert metrics["relayd_socket_buffer_bytes", "client", "receive"] > 0
    assert metrics["relayd_receive_queue_overflows_total", "server"] == 0


def test_what_the_process_costs(start_relay: StartRelay) -> None:
    before = time.time()
    relay = start_relay([new_session("idle")], {"limits": {"max_bound_users": 7}})
    metrics = relay.metrics()
    assert metrics["relayd_ready",] == 1
    assert metrics["relayd_max_bound_users",] == 7
    assert before < metrics["relayd_start_time_seconds",] < time.time()
    assert metrics["relayd_process_resident_memory_bytes",] > 1 << 20
    used = metrics["relayd_process_cpu_seconds_total",]
    assert used > 0
    eventually(lambda: relay.metrics()["relayd_process_cpu_seconds_total",] > used, "its processor time is counted")


def test_not_ready_and_without_a_bound(start_relay: StartRelay) -> None:
    relay = start_relay(None, {"limits": {"max_bound_users": 0}}, ready=False)
    relay.allowed_errors = 1
    metrics = relay.metrics()
    assert metrics["relayd_ready",] == 0
    assert ("relayd_max_bound_users",) not in metrics
