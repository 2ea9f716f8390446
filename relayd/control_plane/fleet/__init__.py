"""The relays: who is alive, and which of them a session goes to."""
