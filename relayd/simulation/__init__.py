"""A simulated game over real UDP sockets: a host and players that speak the wire protocol and check every payload."""
