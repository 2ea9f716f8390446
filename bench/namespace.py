"""A network namespace for one benchmark: its own loopback interface, gone with its last process."""

import os
import subprocess
import sys

_MARK = "BENCH_IN_NAMESPACE"


def enter(scenario: str) -> None:
    """Returns inside of a namespace; outside, runs the scenario in one and ends with its status. Needs root."""
    if os.geteuid() != 0:
        sys.exit(f"bench {scenario}: makes a network namespace of its own and needs root")
    if _MARK not in os.environ:
        # With a mount namespace too, so that what the fast path pins goes with it.
        command = ["unshare", "--net", "--mount", sys.executable, "-m", "bench", *sys.argv[1:]]
        sys.exit(subprocess.call(command, env={**os.environ, _MARK: "1"}))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], check=True)
