"""What is written in C, where it was compiled; and why a test is skipped where it was not."""

import importlib.util

import pytest

__all__ = ["DELAY_BOUNDS_SECONDS", "Flows", "Forwarder", "needs_native"]

_THERE = importlib.util.find_spec("relayd.edge.native._forwarder") is not None

needs_native = pytest.mark.skipif(not _THERE, reason="the C part was not compiled (Debian: gcc python3-dev)")

if _THERE:
    from relayd.edge.native._forwarder import DELAY_BOUNDS_SECONDS, Forwarder
    from relayd.edge.native.flows import Flows
