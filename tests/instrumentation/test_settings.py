import dataclasses
import pickle

import pytest

import llmvitals


@pytest.mark.parametrize(
    ("environment", "numbers"),
    [
        ("development", (10, 0.1, 100, 1000)),
        ("production", (20, 0.2, 100, 1000)),
        ("high_load", (50, 0.5, 500, 2000)),
    ],
)
def test_each_environment_has_its_numbers(environment, numbers):
    """Asked for here or by the variable."""
    asked = llmvitals.settings(environment, {})
    by_variable = llmvitals.settings(environ={"LLMVITALS_ENVIRONMENT": environment})

    assert numbers == (
        asked.batch_max_items,
        asked.batch_max_wait_seconds,
        asked.pool_max_size,
        asked.cache_max_entries,
    )
    assert asked == by_variable
    assert environment == asked.environment


def test_what_does_not_differ():
    """Time-outs, retries, lifetimes and intervals are the same everywhere."""
    numbers = llmvitals.settings(environ={})

    assert (300, 30, 3) == (numbers.pool_idle_seconds, numbers.pool_connect_timeout_seconds, numbers.pool_retries)
    assert (5, 60, 300) == (
        numbers.cache_state_ttl_seconds,
        numbers.cache_modules_ttl_seconds,
        numbers.cache_messages_ttl_seconds,
    )
    assert (60, 300, 30) == (
        numbers.cleanup_cache_seconds,
        numbers.cleanup_connections_seconds,
        numbers.cleanup_batches_seconds,
    )


def test_every_number_has_its_variable():
    """Which wins over the environment's own."""
    names = [field.name for field in dataclasses.fields(llmvitals.Settings) if field.name != "environment"]

    numbers = llmvitals.settings("high_load", {f"LLMVITALS_{name.upper()}": " 7 " for name in names})

    assert {"environment": "high_load"} | dict.fromkeys(names, 7) == dataclasses.asdict(numbers)


def test_all_mistakes_are_told_at_once():
    """By variable, bound and value; a name that is none, with the one that it looks like."""
    with pytest.raises(llmvitals.SettingsError) as told:
        llmvitals.settings(
            environ={
                "LLMVITALS_ENVIRONMENT": "prod",
                "LLMVITALS_BATCH_MAX_ITEMS": "0",
                "LLMVITALS_POOL_IDLE_SECONDS": "soon",
                "LLMVITALS_CACHE_MAX_ENTRYS": "5",
                "LLMVITALS_POOL_COLOUR_OF_THE_WATER": "blue",
                "LLMVITALS_METRICS_PORT": "9464",
            }
        )

    assert (
        "LLMVITALS_ENVIRONMENT must be one of development, production, high_load, not 'prod'",
        "LLMVITALS_BATCH_MAX_ITEMS must be a whole number from 1 to 100000, not '0'",
        "LLMVITALS_POOL_IDLE_SECONDS must be a number of seconds from 1 to 86400, not 'soon'",
        "LLMVITALS_CACHE_MAX_ENTRYS is no setting; did you mean LLMVITALS_CACHE_MAX_ENTRIES?",
        "LLMVITALS_POOL_COLOUR_OF_THE_WATER is no setting",
    ) == told.value.problems
    assert isinstance(told.value, ValueError)
    assert told.value.problems == pickle.loads(pickle.dumps(told.value)).problems


def test_an_empty_variable_is_none():
    """As an .env file leaves it."""
    assert 10 == llmvitals.settings(environ={"LLMVITALS_BATCH_MAX_ITEMS": ""}).batch_max_items
