"""Prometheus metrics, read from the engine's own counts when they are asked for."""
