"""The control plane over HTTP: a file for each family of routes."""
