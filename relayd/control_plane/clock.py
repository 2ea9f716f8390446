"""The one clock that relays, sessions and webhooks are judged by."""

import time

_BEGAN = time.time() - time.monotonic()


def steady_time() -> float:
    """Unix time as it was when the program started, and the seconds since: setting the machine's clock changes nothing.

    Else an hour back would let a relay that just died count as alive for an hour, and hold webhooks back as long.
    """
    return _BEGAN + time.monotonic()
