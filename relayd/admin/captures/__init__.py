"""The datagrams of a session as they cross the wire, as pcapng."""
