"""The two UDP ports, and who serves them."""
