"""The flags of `serve` and `check-policy`: every mistake is told at once, and nothing starts."""

from pathlib import Path

import pytest

from llmvitals_remediation.__main__ import main

POLICIES = Path(__file__).parents[2] / "remediation" / "policies"


@pytest.fixture(name="flags")
def _flags(tmp_path):
    """Flags without a mistake."""
    for name in ("ingest", "admin", "agent"):
        (tmp_path / name).write_text(f"{name}-token-0123456789\n", encoding="utf-8")
    return {
        "--port": "9466",
        "--database": str(tmp_path / "remediation.db"),
        "--policy": str(POLICIES / "default.yml"),
        "--prometheus-url": "http://127.0.0.1:9090",
        "--alertmanager-url": "http://127.0.0.1:9093",
        "--ingest-token-file": str(tmp_path / "ingest"),
        "--admin-token-file": str(tmp_path / "admin"),
        "--agent-token-file": str(tmp_path / "agent"),
    }


def run(flags, *others):
    return main(["serve", *(text for pair in flags.items() for text in pair), *others])


def test_all_mistakes_are_told_at_once(capsys, tmp_path):
    """Whoever mends one should not then learn of the next."""
    (tmp_path / "short").write_text("secret\n", encoding="utf-8")

    status = run(
        {
            "--port": "70000",
            "--host": "localhost",
            "--database": str(tmp_path),
            "--policy": str(tmp_path / "nowhere.yml"),
            "--prometheus-url": "127.0.0.1:9090",
            "--ingest-token-file": str(tmp_path / "gone"),
            "--admin-token-file": str(tmp_path / "short"),
            "--supervisor-url": "http://127.0.0.1:9001",
            "--runbooks": str(tmp_path / "short"),
            "--dashboards-url": "127.0.0.1:3000",
            "--allowed-host": "http://remediation",
            "--log-level": "loud",
        },
        "--prot=9466",
    )

    told = capsys.readouterr().err
    assert 2 == status
    for part in (
        "--port 70000: must be a number from 1 to 65535",
        "--host localhost: must be an IP address",
        "is a folder",
        "nowhere.yml",
        "--prometheus-url 127.0.0.1:9090: must be http or https://host:port",
        "--alertmanager-url: is needed",
        "--ingest-token-file: cannot read",
        "--admin-token-file: the token file",
        "--agent-token-file: is needed",
        "--supervisor-url http://127.0.0.1:9001: must be unix:///",
        "short: is no folder; name the one that holds <AlertName>.md",
        "--dashboards-url 127.0.0.1:3000: must be http or https://host:port",
        "--allowed-host http://remediation",
        "--log-level loud",
        "--prot=9466: there is no such flag",
    ):
        assert part in told
    assert "secret" not in told


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://a:b", "http://user:pass@host:1", "http://h:1/?q=1"])
def test_a_url_must_be_one(flags, capsys, url):
    """A password or a query in a URL is a mistake to be told, not to be logged at each request."""
    assert 2 == run({**flags, "--prometheus-url": url})
    assert "--prometheus-url" in capsys.readouterr().err


def test_tokens_of_different_audiences_must_differ(flags, capsys):
    """An application that holds the admin's token could approve its own actions."""
    assert 2 == run({**flags, "--agent-token-file": flags["--admin-token-file"]})
    assert "tokens of their own" in capsys.readouterr().err


def test_a_policy_with_five_mistakes_is_refused_with_all_five(flags, capsys, tmp_path):
    """`serve` and `check-policy` tell the same."""
    text = (POLICIES / "default.yml").read_text(encoding="utf-8")
    text = (
        text.replace("version: 1", "version: 9")
        .replace("concurrent: 3", "concurrent: many")
        .replace("mode: auto", "mode: yolo", 1)
        .replace("retention:", "retenshun:")
        .replace("attempts: 3", "attempts: 99")
    )
    (tmp_path / "bad.yml").write_text(text, encoding="utf-8")

    statuses = [
        run({**flags, "--policy": str(tmp_path / "bad.yml")}),
        main(["check-policy", str(tmp_path / "bad.yml")]),
    ]

    told = capsys.readouterr().err
    assert [2, 2] == statuses
    assert 2 == told.count("5 mistakes")


@pytest.mark.parametrize("name", ["default.yml", "demo.yml"])
def test_the_shipped_policies_are_good(capsys, name):
    """What we ship must load."""
    assert 0 == main(["check-policy", str(POLICIES / name)])
    assert "good" in capsys.readouterr().out


def test_help_tells_what_the_exit_status_means(capsys):
    """`make up` and supervisors read it."""
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--help"])

    assert 0 == caught.value.code
    assert "exit status" in capsys.readouterr().out
