"""What `make up` and its siblings say to the person at the terminal."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table


class Terminal:
    """Steps with a spinner and their times where there is a terminal; plain lines where there is none."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show that something goes on, and how long it took if it was long enough to wonder."""
        started = time.monotonic()
        with self._console.status(f"{what} ..."):
            if not self._console.is_terminal:
                self.say(f"{what} ...")
            yield
        seconds = time.monotonic() - started
        if seconds > 2:
            self.say(f"[green]✓[/] {what} [dim]{seconds:.0f} s[/]")

    def say(self, text: str) -> None:
        self._console.print(text)

    def plain(self, text: str) -> None:
        """Print a text as it is: what comes from a log or a label is no markup."""
        self._console.print(text, markup=False)

    def healthy(self, name: str, seconds: float) -> None:
        self._console.print(f"[green]✓[/] {name} [dim]{seconds:.1f} s[/]")

    def warn(self, text: str) -> None:
        self._console.print("[yellow]![/]", end=" ")
        self.plain(text)

    def table(self, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)


def error(text: str) -> None:
    """Say what is wrong, on standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, style="red", markup=False)


def interactive() -> bool:
    return sys.stdout.isatty()
