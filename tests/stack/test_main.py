"""What the commands say when something is in their way."""

import fcntl

import pytest

from llmvitals_stack.__main__ import main


@pytest.fixture(name="checkout")
def _checkout(tmp_path):
    (tmp_path / ".env.example").write_text("LLMVITALS_GRAFANA_PORT=3000\n")
    return tmp_path


@pytest.mark.parametrize(("command", "code", "said"), [("down", 0, "Nothing ran."), ("status", 3, "Nothing runs")])
def test_a_mistake_in_the_settings_keeps_nobody_from_stopping(checkout, capsys, command, code, said):
    """`down` and `status` need nothing of `.env`."""
    (checkout / ".env").write_text("LLMVITALS_GRAFANA_PORT=much\njunk\n")

    assert code == main(["--root", str(checkout), command])
    assert said in capsys.readouterr().out


def test_a_file_that_cannot_be_used_is_told_without_a_traceback(checkout, capsys):
    """The message names the file and the system's reason."""
    (checkout / ".env").mkdir()

    assert 1 == main(["--root", str(checkout), "up"])
    assert f"{checkout / '.env'}: Is a directory" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["up", "down"])
def test_two_at_once_do_not_get_into_each_others_way(checkout, capsys, command):
    """The second says that another is at work, and changes nothing."""
    (checkout / ".run").mkdir()
    with (checkout / ".run" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        assert 1 == main(["--root", str(checkout), command])

    assert "Another `make up` or `make down` works here" in capsys.readouterr().err
    assert not (checkout / ".env").exists()
