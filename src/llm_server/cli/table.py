"""Rows for a person or for the next program: nothing of them is ever cut off."""

import sys
from collections.abc import Collection, Sequence

from rich.console import Console
from rich.table import Table


def show(
    headings: Sequence[str], rows: Collection[Sequence[str]], dim: Collection[Sequence[str]] = ()
) -> None:
    """Print ``rows``: in a terminal a table with ``headings`` that wraps what is long, and ``dim`` rows dim.

    Elsewhere one line for each row and nothing else: columns stand two spaces apart, ``-`` is an empty cell.
    """
    if not sys.stdout.isatty():
        _lines([[cell or "-" for cell in row] for row in rows])
        return
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row, style="dim" if row in dim else "")
    Console(markup=False, highlight=False).print(table)


def _lines(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
