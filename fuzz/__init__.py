"""Looks for input that relayd does not bear: coverage-guided fuzzing, and a simulator of faults on a virtual clock."""
