import json
import logging
import os
import sys
from datetime import UTC, date, datetime

import pytest

from llmvitals._prices import PricesError, read_prices

ROW = {"model": "talker*", "input": 1, "output": 2}
ROW_PARTS = ("provider", "model", "input", "output", "cached_input", "cache_write_input", "reasoning", "since")
TODAY = date(2026, 11, 1)


@pytest.fixture(name="table")
def _table(tmp_path):
    def write(*rows, name="prices.json", **more):
        path = tmp_path / name
        path.write_text(json.dumps({"prices": rows, **more}))
        return path

    return write


def price(path, provider, model, day=TODAY):
    found = read_prices(path).of(provider, model, day)
    return None if found is None else round(found.input * 1e6, 6)


def test_the_first_row_that_fits_says_the_price(table):
    """By patterns for provider and model; without a provider, for any."""
    path = table(
        {**ROW, "provider": "local", "model": "talker-mini", "input": 0.1},
        {**ROW, "provider": "local"},
        {**ROW, "input": 5},
    )

    assert 0.1 == price(path, "local", "talker-mini")
    assert 1 == price(path, "local", "talker-7b")
    assert 5 == price(path, "cloud", "talker-7b")
    assert price(path, "local", "thinker") is None


def test_a_price_is_in_force_from_its_day(table):
    """Of rows with the same patterns, the latest that has come."""
    path = table({**ROW, "input": 3, "since": "2026-12-01"}, {**ROW, "input": 2, "since": "2026-06-01"}, ROW)

    assert [1, 2, 3] == [price(path, "", "talker", day) for day in (date(2026, 1, 1), TODAY, date(2026, 12, 1))]


def test_what_has_no_price_of_its_own_costs_as_its_kind(table):
    """Cached and cache-written tokens are input, reasoning is output."""
    path = table(ROW, {**ROW, "model": "thinker", "cached_input": 0.1, "cache_write_input": 1.25, "reasoning": 3})

    plain, full = (read_prices(path).of("", model, TODAY) for model in ("talker", "thinker"))

    assert (1e-6, 1e-6, 2e-6) == (plain.cached_input, plain.cache_write_input, plain.reasoning)
    assert (0.1, 1.25, 3) == tuple(
        round(amount * 1e6, 9) for amount in (full.cached_input, full.cache_write_input, full.reasoning)
    )


def test_yaml_says_the_same(tmp_path):
    """Its own days included."""
    path = tmp_path / "prices.yaml"
    path.write_text("currency: USD\nprices:\n- {model: talker, input: 1.5, output: 2, since: 2026-01-31}\n")

    assert 1.5 == price(path, "local", "talker")
    assert price(path, "local", "talker", date(2026, 1, 30)) is None


def test_yaml_without_pyyaml_says_what_to_do(tmp_path, monkeypatch):
    """JSON needs nothing."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = tmp_path / "prices.yml"
    path.write_text("prices: []")

    with pytest.raises(PricesError, match="needs pyyaml: install it, or write the table as JSON"):
        read_prices(path)


def test_a_table_tells_its_budget_and_the_day_that_it_is_of(table):
    """Dollars a day and a month; without a day, the file's own time."""
    told = read_prices(table(ROW, updated="2026-11-01", budget={"daily_usd": 20, "monthly_usd": 400.5}))
    path = table(ROW, name="plain.json")
    os.utime(path, (1.7e9, 1.7e9))
    plain = read_prices(path)

    assert (datetime(2026, 11, 1, tzinfo=UTC).timestamp(), {"day": 20, "month": 400.5}) == (told.updated, told.budgets)
    assert (1.7e9, {}) == (plain.updated, plain.budgets)


def test_a_budget_that_cannot_be_is_told(table):
    """Nobody may spend nothing, and a week is no part of one."""
    wrong = table(ROW, updated="lately", budget={"daily_usd": 0, "monthly_usd": "much", "weekly_usd": 5})

    with pytest.raises(PricesError) as caught:
        read_prices(wrong)
    with pytest.raises(PricesError, match="budget must be a mapping with daily_usd or monthly_usd, not 20"):
        read_prices(table(ROW, budget=20))

    assert [
        f"{wrong}: updated must be a day like \"2026-01-31\", not 'lately'",
        f"{wrong}: 'weekly_usd' is no part of a budget: daily_usd, monthly_usd are",
        f"{wrong}: budget's daily_usd must be dollars, more than 0, not 0",
        f"{wrong}: budget's monthly_usd must be dollars, more than 0, not 'much'",
    ] == str(caught.value).split("; ")


def test_all_mistakes_are_told_at_once(table):
    """Each with its row, its name and what it should be."""
    path = table(
        {**ROW, "input": "cheap", "output": -1, "inptu": 3},
        {"model": "", "output": True, "provider": 7, "since": "soon"},
        ["talker"],
        ROW,
        currency="EUR",
        pricse=[],
    )

    with pytest.raises(PricesError) as caught:
        read_prices(path)

    told = str(caught.value).split("; ")
    assert [
        f"{path}: 'pricse' is no part of a table: currency, updated, budget, prices are",
        f"{path}: currency must be USD, because the metric counts dollars, not 'EUR'",
        f"{path}, price 1: 'inptu' is no part of a price: {', '.join(ROW_PARTS)} are",
        f"{path}, price 1: input must be dollars per million tokens, 0 or more, not 'cheap'",
        f"{path}, price 1: output must be dollars per million tokens, 0 or more, not -1",
        f"{path}, price 2: input is missing",
        f"{path}, price 2: provider must be a pattern, not 7",
        f"{path}, price 2: model must be a pattern, not ''",
        f"{path}, price 2: output must be dollars per million tokens, 0 or more, not True",
        f"{path}, price 2: since must be a day like \"2026-01-31\", not 'soon'",
        f"{path}, price 3: must be a mapping with model, input, output, not ['talker']",
    ] == told


@pytest.mark.parametrize("content", ["", "{", "[]", '{"prices": {}}', "prices: ["], ids=repr)
@pytest.mark.parametrize("name", ["prices.json", "prices.yaml"])
def test_what_is_no_table_is_said_with_its_path(tmp_path, name, content):
    """Whatever is in the file."""
    path = tmp_path / name
    path.write_text(content)

    with pytest.raises(PricesError, match=str(path)):
        read_prices(path)


def test_a_bad_table_prices_nothing_and_says_so_once(vitals, caplog, tmp_path):
    """The application goes on, and its calls are counted as unpriced."""
    with caplog.at_level(logging.WARNING, "llmvitals"):
        vitals.prices(tmp_path / "nowhere.json")
        for _ in range(2):
            with vitals.call(provider="local", model="talker") as call:
                call.usage(input_tokens=7)

    (record,) = caplog.records
    assert "no call is priced" in record.getMessage()
    assert "nowhere.json" in record.getMessage()
    assert 2 == vitals.value("llmvitals_unpriced_calls_total", gen_ai_request_model="talker")
    assert vitals.value("llmvitals_cost_usd_total") is None
