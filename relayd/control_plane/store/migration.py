"""Brings a database to the schema of this program, by Alembic, or says why it cannot be."""

from sqlalchemy import Connection, column, inspect, select, table

from relayd.control_plane.errors import StoreUnusableError

HEAD = "0007"
"""The newest step in migrations/versions. A database that is there, as nearly every one is, needs no Alembic."""

_SCRIPTS = "relayd.control_plane.store:migrations"
_version = table("alembic_version", column("version_num"))


def migrate(connection: Connection, *, stood_at: str | None) -> None:
    """Takes the steps that the database lacks, all of them in the transaction that is open on the connection.

    Args:
        connection: nobody else may change the database meanwhile.
        stood_at: the step that a database without Alembic's table is at; None for an empty one.

    Raises:
        StoreUnusableError: it was written by a newer relayd.
    """
    stands_at = None
    if inspect(connection).has_table(_version.name):
        stands_at = connection.scalar(select(_version.c.version_num))
        if stands_at == HEAD:
            return
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", _SCRIPTS)
    config.attributes["connection"] = connection
    if stands_at is not None:
        if stands_at not in [step.revision for step in ScriptDirectory.from_config(config).walk_revisions()]:
            raise newer(stands_at, HEAD)
    elif stood_at is not None:
        command.stamp(config, stood_at)
    command.upgrade(config, "head")


def newer(schema: object, known: object) -> StoreUnusableError:
    """The refusal of a database that is ahead of this program."""
    return StoreUnusableError(
        f"was written by a newer relayd (schema {schema}, this one knows {known}); install that one again or name"
        " another [api] database"
    )
