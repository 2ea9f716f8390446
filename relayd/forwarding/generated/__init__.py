"""C headers written from relayd/core/declaration by `make generate`, and what writes them. Not to be edited."""
