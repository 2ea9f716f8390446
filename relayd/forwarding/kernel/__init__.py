"""The kernel fast path: an XDP program that forwards between bound users, and what keeps it true to the table."""
