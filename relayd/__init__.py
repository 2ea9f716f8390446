"""relayd: a relay for game traffic that speaks Edgegap's distributed relay protocol."""

__version__ = "0.1.0"
