"""The policy file: all mistakes at once, with their lines, and a bad new file that changes nothing."""

from pathlib import Path

import promql_parser
import pytest

from llmvitals_remediation.policy import Bound, Policy, PolicyError, PolicySource, load

SHIPPED = Path(__file__).parents[2] / "remediation" / "policies"

HANDLER = """
version: 1
handlers:
  relieve:
    alerts: [Memory]
    mode: auto
    effect: idempotent
    action: {verb: relieve_memory}
    verify: {query: ratio, healthy: {below: 1.5}, timeout_seconds: 60}
"""


def written(tmp_path, text):
    path = tmp_path / "policy.yml"
    path.write_text(text, encoding="utf-8")
    return path


def mistakes(tmp_path, text):
    with pytest.raises(PolicyError) as caught:
        load(written(tmp_path, text))
    return [(mistake.line, mistake.where, mistake.problem) for mistake in caught.value.mistakes]


@pytest.mark.parametrize("name", ["default", "demo"])
def test_the_shipped_policies_are_good_and_their_queries_parse(name):
    """Every query is PromQL."""
    policy = load(SHIPPED / f"{name}.yml")

    for handler in policy.handlers.values():
        for probe in (handler.precondition, handler.verify.probe, handler.hold and handler.hold.release):
            if probe:
                promql_parser.parse(probe.query)


def test_by_default_only_repeatable_acts_inside_a_process_are_automatic():
    """A restart, and a change that is held, wait for a person."""
    for handler in load(SHIPPED / "default.yml").handlers.values():
        cautious = handler.driver != "agent" or handler.hold is not None
        assert ("approve" if cautious else "auto") == handler.mode, handler.name


def test_the_demos_policy_is_automatic_throughout():
    """Ten chaos runs in a row need nobody."""
    assert {"auto"} == {handler.mode for handler in load(SHIPPED / "demo.yml").handlers.values()}


def test_what_is_left_out_is_as_designed(tmp_path):
    """Three attempts, a minute doubled, five minutes' cooldown, three failures, six an hour, three at once."""
    policy = load(written(tmp_path, HANDLER))
    handler = policy.handlers["relieve"]

    assert (3, 60.0, 0.2, 300.0) == (
        handler.attempts,
        handler.backoff_seconds,
        handler.backoff_jitter,
        handler.cooldown_seconds,
    )
    assert (3, 3600.0) == (handler.breaker.failures, handler.breaker.open_seconds)
    assert (6, 20, 3, 14_400.0) == (
        handler.rate_per_hour,
        handler.rate_per_day,
        handler.relapse_incidents,
        handler.relapse_seconds,
    )
    assert (3, 30.0) == (policy.concurrent, policy.reconcile_seconds)
    assert handler.precondition == handler.verify.probe


def test_defaults_hold_for_all_and_a_handler_may_differ(tmp_path):
    """Its own word first, then the file's defaults, then ours."""
    text = HANDLER.replace("handlers:", "defaults: {attempts: 2, cooldown_seconds: 9}\nhandlers:") + "    attempts: 5\n"
    handler = load(written(tmp_path, text)).handlers["relieve"]

    assert (5, 9.0) == (handler.attempts, handler.cooldown_seconds)


def test_five_mistakes_are_told_together_each_with_its_line(tmp_path):
    """One reading, one list."""
    text = """version: 2
limit: {concurrent: 3}
handlers:
  a:
    alerts: []
    mode: off
    effect: maybe
    action: {verb: x, timeout_second: 5}
    verify: {query: up, healthy: {at_least: 1}, timeout_seconds: 10}
"""
    told = mistakes(tmp_path, text)

    assert [
        (1, "version", "must be a whole number from 1 to 1"),
        (2, "limit", "unknown key; did you mean 'limits'?"),
        (5, "handlers.a.alerts", "must be a list of one or more texts"),
        (7, "handlers.a.effect", "must be one of idempotent, detectable, neither"),
        (8, "handlers.a.action.timeout_second", "unknown key; did you mean 'timeout_seconds'?"),
    ] == told


@pytest.mark.parametrize(
    ("change", "where", "problem"),
    [
        (("query: ratio", 'query: "x{i=\\"{{ $labels.instance }}\\"}"'), "verify.query", "must be a constant"),
        (("{below: 1.5}", "{below: 1.5, above: 1}"), "verify.healthy", "exactly one of"),
        (("{below: 1.5}", "{}"), "verify.healthy", "exactly one of"),
        (("{below: 1.5}", "{below: .nan}"), "verify.healthy.below", "must be a number"),
        (("{below: 1.5}", "{below: yes}"), "verify.healthy.below", "must be a number"),
        (("timeout_seconds: 60", "timeout_seconds: 0"), "verify.timeout_seconds", "from 1 to"),
        (("timeout_seconds: 60", "window_seconds: 60, timeout_seconds: 60"), "verify.window_seconds", "shorter"),
        ((", timeout_seconds: 60", ""), "verify.timeout_seconds", "is missing"),
        (("verb: relieve_memory", "verb: revert_lease"), "action.verb", "sent by remediation itself"),
        (("{verb: relieve_memory}", "{driver: supervisor, verb: rm}"), "action.verb", "start or restart"),
        (("{verb: relieve_memory}", "{driver: ssh, verb: x}"), "action.driver", "must be one of agent, supervisor"),
        (("{verb: relieve_memory}", "{verb: x, parameters: {lease_seconds: 5}}"), "action.parameters", "hold."),
        (("{verb: relieve_memory}", "{verb: x, parameters: 5}"), "action.parameters", "must be a mapping"),
        (("mode: auto", "mode: auto\n    mode: off"), "relieve", "is there twice"),
        (("mode: auto", "mode: auto\n    hold: {lease_seconds: 5}"), "hold", "six scrapes"),
        (("mode: auto", "mode: auto\n    rate_per_hour: 30"), "rate_per_hour", "rate_per_day"),
        (("mode: auto", "mode: auto\n    attempts: 99"), "attempts", "from 1 to 10"),
        (("mode: auto", "mode: auto\n    atempts: 2"), "atempts", "did you mean 'attempts'"),
        (("{below: 1.5}", "{newer_than: incident}"), "precondition", "is needed"),
        (("  relieve:", "  relieve: 5\n  other:"), "handlers.relieve", "must be a mapping"),
    ],
)
def test_each_mistake_is_told_where_it_is(tmp_path, change, where, problem):
    """The key's path and what to do."""
    told = mistakes(tmp_path, HANDLER.replace(*change))

    assert any(path.endswith(where) and problem in text for _, path, text in told), told


def test_a_mistake_in_the_defaults_is_told_once(tmp_path):
    """However many handlers read it."""
    second = HANDLER.replace("version: 1\nhandlers:\n", "").replace("relieve:", "second:", 1)
    text = HANDLER.replace("handlers:", "defaults: {attempts: 0}\nhandlers:") + second

    assert [(3, "defaults.attempts", "must be a whole number from 1 to 10")] == mistakes(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("a: [", "is not YAML"),
        ("version: 1\n", "is missing"),
        ("version: 1\nhandlers: {}\n", "has no handler"),
        ("- a\n", "must be a mapping"),
        ("version: &a [*a]\n", "must be a whole number"),
    ],
    ids=["empty", "broken", "no handlers", "empty handlers", "a list", "recursive"],
)
def test_what_is_no_policy_is_refused_with_a_reason(tmp_path, text, problem):
    """Never a traceback."""
    assert any(problem in told for _, _, told in mistakes(tmp_path, text))


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path):
    """With its path in the answer."""
    with pytest.raises(PolicyError, match="No such file"):
        load(tmp_path / "nothing.yml")
    binary = tmp_path / "binary.yml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PolicyError, match="not UTF-8"):
        load(binary)


def test_a_changed_file_is_taken_up_and_a_bad_one_leaves_the_old(tmp_path):
    """Told once; the same bad file is not told again; a good one afterwards is taken up."""
    path = written(tmp_path, HANDLER)
    source = PolicySource(path)
    assert source.poll() is None
    path.write_text(HANDLER.replace("auto", "perhaps"), encoding="utf-8")
    refused = source.poll()
    assert isinstance(refused, PolicyError)
    assert source.poll() is None
    assert "auto" == source.policy.handlers["relieve"].mode
    path.unlink()
    assert isinstance(source.poll(), PolicyError)
    assert source.poll() is None
    path.write_text(HANDLER.replace("auto", "observe"), encoding="utf-8")
    taken = source.poll()

    assert isinstance(taken, Policy)
    assert "observe" == source.policy.handlers["relieve"].mode


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1_795_301_000.5, "2026-11-21 22:43:20 UTC"),
        (0.0, "1970-01-01 00:00:00 UTC"),
        (-1.0, "-1"),
        (1e300, "1e+300"),
        (float("nan"), "nan"),
    ],
)
def test_a_start_is_told_as_a_moment(value, told):
    """What proves a restart is a time, which nobody reads as seconds since 1970; what is no time is told as it is."""
    assert told == Bound("newer_than", 0).told(value)
    assert f"{value:g}" == Bound("at_most", 1).told(value)
