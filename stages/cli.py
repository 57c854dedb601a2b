"""A stage's edge: run its command, say what went wrong in one line, show a summary table."""

import sys
from collections.abc import Callable, Iterable

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text


class InputError(ValueError):
    """Something that a person can mend; the message says what, where and what to do, and is all that they see."""


def run(command: Callable) -> None:
    """Run a stage's main function as a Typer command; an InputError ends it with its message and exit code 1."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(command)
    try:
        app()
    except InputError as error:
        sys.exit(f"error: {error}")


def show_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a title and a table: the first column left-aligned, the others right-aligned."""
    table = Table(header_style="")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    # A pipe has no width: a log file gets 120 columns.
    console = Console(width=None if sys.stdout.isatty() else 120)
    # Not the table's own title, which would be wrapped to the width of a narrow table; and Text, because a title may be
    # a file's name, whose brackets are no markup.
    console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(table)
