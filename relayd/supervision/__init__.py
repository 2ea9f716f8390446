"""The relay under a service manager: readiness, watchdog, kept sockets, upgrade."""
