"""What backends are told of their sessions."""
