"""Usage records: kept where no crash loses them, and delivered to the control plane or to a file."""
