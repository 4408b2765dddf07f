"""A table of prices: what a million tokens cost, by provider and model, in a file that the application writes."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

_AMOUNTS = ("input", "output", "cached_input", "cache_write_input", "reasoning")
_NEEDED = ("model", "input", "output")
_KNOWN = ("provider", "model", *_AMOUNTS, "since")
_PARTS = ("currency", "updated", "budget", "prices")
# As the file says them, and as the metric does.
_BUDGETS = {"daily_usd": "day", "monthly_usd": "month"}


class PricesError(ValueError):
    """A table of prices that cannot be; its text has every mistake."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))


@dataclass(frozen=True, slots=True)
class Price:
    """What one token costs, in US dollars, by what it is."""

    input: float
    output: float
    cached_input: float
    cache_write_input: float
    reasoning: float


@dataclass(frozen=True, slots=True)
class _Row:
    provider: str
    model: str
    since: date
    price: Price

    def is_for(self, provider: str, model: str) -> bool:
        return fnmatchcase(provider, self.provider) and fnmatchcase(model, self.model)


class Prices:
    """The prices of one file; see `read_prices`."""

    def __init__(self, rows: tuple[_Row, ...], updated: float, budgets: Mapping[str, float]) -> None:
        self._rows = rows
        self.updated = updated
        """When somebody last looked after them, in unix seconds: the day that the file tells, or its own time."""

        self.budgets = budgets
        """US dollars that may be spent, by ``day`` and ``month``, as far as the file tells."""

    def of(self, provider: str, model: str, day: date) -> Price | None:
        """The price on that *day*; None where the table has none.

        The first row that fits says the price; of rows with the same two patterns, the latest that is in force.
        """
        fitting = [row for row in self._rows if row.since <= day and row.is_for(provider, model)]
        if not fitting:
            return None
        patterns = (fitting[0].provider, fitting[0].model)
        same = [row for row in fitting if (row.provider, row.model) == patterns]
        return max(same, key=lambda row: row.since).price


def read_prices(path: str | Path) -> Prices:
    """Read a table of prices, JSON or, with pyyaml, YAML: US dollars per million tokens.

    ```json
    {
      "currency": "USD",
      "updated": "2026-11-01",
      "budget": {"daily_usd": 20, "monthly_usd": 400},
      "prices": [
        {"provider": "local", "model": "talker*", "input": 0.15, "output": 0.6, "since": "2026-01-01"}
      ]
    }
    ```

    *updated* and *budget* may be left out.

    *provider* and *model* are patterns with ``*`` and ``?``; without a provider, any. ``cached_input``,
    ``cache_write_input`` and ``reasoning`` may be given, too; what is not costs as much as its input or output.

    Raises PricesError, which tells all mistakes at once.
    """
    path = Path(path)
    table = _parsed(path)
    problems: list[str] = []
    rows: list[_Row] = []
    if not isinstance(table, Mapping) or not isinstance(table.get("prices"), list):
        raise PricesError([f'{path} must have a list under "prices"'])
    unknown = _unknown(table, *_PARTS)
    problems += [f"{path}: {name!r} is no part of a table: {', '.join(_PARTS)} are" for name in unknown]
    currency = table.get("currency", "USD")
    if currency != "USD":
        problems.append(f"{path}: currency must be USD, because the metric counts dollars, not {currency!r}")
    if "updated" in table and _day(table["updated"]) is None:
        problems.append(f'{path}: updated must be a day like "2026-01-31", not {table["updated"]!r}')
    problems += [f"{path}: {mistake}" for mistake in _budget_mistakes(table.get("budget", {}))]
    for number, entry in enumerate(table["prices"], 1):
        found = _mistakes(entry)
        problems += [f"{path}, price {number}: {mistake}" for mistake in found]
        if not found:
            rows.append(_row(entry))
    if problems:
        raise PricesError(problems)
    budgets = {_BUDGETS[name]: float(amount) for name, amount in table.get("budget", {}).items()}
    return Prices(tuple(rows), _updated(path, _day(table.get("updated"))), budgets)


def _parsed(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix not in (".yaml", ".yml"):
            return json.loads(text)
    except (OSError, ValueError) as error:
        raise PricesError([f"{path} cannot be read as JSON: {error}"]) from error
    try:
        import yaml  # noqa: PLC0415 -- not among what an application must install
    except ImportError as error:
        raise PricesError([f"{path} is YAML, which needs pyyaml: install it, or write the table as JSON"]) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PricesError([f"{path} cannot be read as YAML: {error}"]) from error


def _updated(path: Path, told: date | None) -> float:
    """A file's own time is that of a checkout or an image where nobody tells better."""
    return path.stat().st_mtime if told is None else datetime(told.year, told.month, told.day, tzinfo=UTC).timestamp()


def _budget_mistakes(budget: object) -> list[str]:
    if not isinstance(budget, Mapping):
        return [f"budget must be a mapping with {' or '.join(_BUDGETS)}, not {budget!r}"]
    return [f"{name!r} is no part of a budget: {', '.join(_BUDGETS)} are" for name in _unknown(budget, *_BUDGETS)] + [
        f"budget's {name} must be dollars, more than 0, not {budget[name]!r}"
        for name in _BUDGETS
        if name in budget and not (_is_amount(budget[name]) and budget[name] > 0)
    ]


def _mistakes(entry: object) -> list[str]:
    if not isinstance(entry, Mapping):
        return [f"must be a mapping with {', '.join(_NEEDED)}, not {entry!r}"]
    mistakes = [f"{name!r} is no part of a price: {', '.join(_KNOWN)} are" for name in _unknown(entry, *_KNOWN)]
    mistakes += [f"{name} is missing" for name in _NEEDED if name not in entry]
    mistakes += [
        f"{name} must be a pattern, not {entry[name]!r}"
        for name in ("provider", "model")
        if name in entry and not (isinstance(entry[name], str) and entry[name])
    ]
    mistakes += [
        f"{name} must be dollars per million tokens, 0 or more, not {entry[name]!r}"
        for name in _AMOUNTS
        if name in entry and not _is_amount(entry[name])
    ]
    if "since" in entry and _day(entry["since"]) is None:
        mistakes.append(f'since must be a day like "2026-01-31", not {entry["since"]!r}')
    return mistakes


def _unknown(entry: Mapping[Any, Any], *known: str) -> list[Any]:
    return [name for name in entry if name not in known]


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _day(value: object) -> date | None:
    if isinstance(value, date):  # YAML's own.
        return date(value.year, value.month, value.day)
    try:
        return date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _row(entry: Mapping[str, Any]) -> _Row:
    each = {name: entry[name] / 1e6 for name in _AMOUNTS if name in entry}
    price = Price(
        input=each["input"],
        output=each["output"],
        cached_input=each.get("cached_input", each["input"]),
        cache_write_input=each.get("cache_write_input", each["input"]),
        reasoning=each.get("reasoning", each["output"]),
    )
    return _Row(entry.get("provider", "*"), entry["model"], _day(entry.get("since")) or date.min, price)
