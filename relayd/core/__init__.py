"""What a relay does, without sockets, clocks, logging or randomness of its own."""
