"""`dotflow history`: the tables of a history in Postgres."""

import click

from dotflow.cli.command import CONTEXT_SETTINGS, Command, Group, option
from dotflow.cli.options import HISTORY_OPTION, open_history


@click.group(cls=Group, context_settings=CONTEXT_SETTINGS, invoke_without_command=True)
@click.pass_context
def history(context: click.Context) -> None:
    """Make or upgrade the tables of a history in Postgres.

    \b
    dotflow history upgrade --history postgres
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@history.command(cls=Command)
@HISTORY_OPTION
@option("--sql", "as_sql", is_flag=True, example="--sql | psql shop", help="Print the statements, and change nothing.")
def upgrade(history: str | None, as_sql: bool) -> None:
    """Make the tables of a history in Postgres, or upgrade them.

    \b
    dotflow history upgrade --history postgres
    dotflow history upgrade --history postgres --sql | psql shop

    The first run does this, too, if its role may create a schema. A history file upgrades itself.
    """
    from dotflow.providers import HistoryPostgres

    archive = open_history(history)
    if not isinstance(archive, HistoryPostgres):
        raise click.UsageError("This history is a file, which upgrades itself. Use --history postgres.")
    if as_sql:
        click.echo(archive.upgrade_sql())
    elif archive.upgrade():
        click.echo(f"The tables are made: {archive.database.place}.")
    else:
        click.echo(f"The tables have the newest format: {archive.database.place}.")
