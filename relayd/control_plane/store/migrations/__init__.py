"""The way of a database from one schema to the next, by Alembic. `schema.py` is where it leads."""
