"""What every HTTP server of relayd shares: sockets, limits, TLS."""
