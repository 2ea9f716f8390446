"""Who of a session may be its host. A player knows its own token and the session's, and can send to either port."""

import enum


class HostPolicy(enum.StrEnum):
    """`limits.host_policy`. A session's declared host is the first of its users."""

    PREFERRED = "preferred"
    """Any user while the declared host is not there; that one takes the role at once whenever it comes."""
    STRICT = "strict"
    """Nobody but the declared host."""
    ANY = "any"
    """Whoever comes first."""
