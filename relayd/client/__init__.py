"""Clients of relayd's own interfaces."""
