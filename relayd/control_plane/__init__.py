"""The control plane: the relay REST API, its store, the placement of sessions on relays, and webhooks.

Runs alone (`server.serve`) or inside another process (`server.open_control_plane` gives the service and its app).
"""
