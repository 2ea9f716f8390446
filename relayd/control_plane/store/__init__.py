"""What the control plane keeps: one schema and one set of queries."""
