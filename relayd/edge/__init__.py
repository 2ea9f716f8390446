"""Everything that touches the world: sockets, files, HTTP. The edges do not know each other."""
