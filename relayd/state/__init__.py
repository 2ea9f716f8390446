"""What must survive a restart or a crash: bindings, connection ids, counts, sessions that ended."""
