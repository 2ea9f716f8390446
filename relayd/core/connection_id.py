"""When a player who comes from another address gets another connection id. The id is all a host knows a player by.

Seen with the real client (kcp2k): a game survives a NAT rebinding only under the same id, and a player who was killed
and restarts gets in at once only under a new one. A zero cookie in the first DATA tells the two apart.
"""

import enum


class ConnectionIdPolicy(enum.StrEnum):
    """`limits.connection_id_policy`."""

    KCP = "kcp"
    """Keep the id, unless the first DATA from the new address opens a KCP connection."""
    STABLE = "stable"
    """Keep it as long as the user is in the session."""
    PER_ADDRESS = "per_address"
    """Never keep it."""
