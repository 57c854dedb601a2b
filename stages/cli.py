"""A stage's edge: run its command, say what went wrong in one line, note how long it took, show a summary table."""

import csv
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

TIMES = Path("reports/times.csv")


class InputError(ValueError):
    """Something that a person can mend; the message says what, where and what to do, and is all that they see."""


def run(command: Callable) -> None:
    """Run a stage's main function as a Typer command; an InputError ends it with its message and exit code 1."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(command)
    started_at, start = datetime.now(UTC), time.monotonic()
    try:
        app()
    except InputError as error:
        # One write, for processes that fail at the same moment: sys.exit's own message takes two, and lines would mix.
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    except SystemExit as end:  # how Typer ends every command
        if not end.code and "DVC_STAGE" in os.environ:
            note_time(os.environ["DVC_STAGE"], started_at, time.monotonic() - start)
        raise


def note_time(stage: str, started_at: datetime, seconds: float) -> None:
    """Write how long a stage of the pipeline took, and the memory of its largest process, in place of its last time.

    No output of the pipeline: the same run takes another time.
    """
    rows = list(csv.DictReader(TIMES.read_text().splitlines())) if TIMES.exists() else []
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cells = (stage, f"{seconds:.1f}", f"{peak / 1e6:.2f}", f"{started_at:%Y-%m-%dT%H:%M:%SZ}")
    row = dict(zip(("stage", "seconds", "peak_memory_gb", "started_at"), cells, strict=True))
    TIMES.parent.mkdir(exist_ok=True)
    temporary = TIMES.with_name(f".{TIMES.name}.{os.getpid()}.partial")
    with temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, row, lineterminator="\n")
        table.writeheader()
        table.writerows([*(other for other in rows if other["stage"] != stage), row])
    temporary.replace(TIMES)


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
