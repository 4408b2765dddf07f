"""Settings from a file and from the environment."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.exporter.test_options import problems

from llmvitals_exporter._options import UsageError, parse
from llmvitals_exporter.collectors.koboldcpp import KOBOLDCPP
from llmvitals_exporter.collectors.nvidia import NVIDIA
from llmvitals_exporter.collectors.processes import WATCH


@pytest.fixture(name="write")
def _write(tmp_path):
    def write(text):
        file = tmp_path / "exporter.yml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(file)

    return write


def groups(plan):
    return [(watch.group, watch.pattern.pattern) for watch in plan.settings[WATCH]]


def test_file(write):
    """A file can say everything that the command line can, lists and mappings included."""
    file = write(
        "port: 9999\n"
        "collector-timeout: 0.5\n"
        "nvidia: off  # a plain word, not YAML's false\n"
        "only: [processes, koboldcpp, nvidia]\n"
        "watch:\n  app: 'python .*my_app'\n  db: postgres\n"
        "koboldcpp: [http://127.0.0.1:5001]\n"
        "host:\n"
    )
    plan = parse(["--config", file], {})

    assert ("127.0.0.1", 9999, 0.5) == (plan.host, plan.port, plan.timeout)
    assert ["processes", "nvidia", "koboldcpp"] == [collector.name for collector in plan.collectors]
    assert [("app", "python .*my_app"), ("db", "postgres")] == groups(plan)
    assert ["127.0.0.1:5001"] == [server.label for server in plan.settings[KOBOLDCPP]]
    assert "off" == plan.settings[NVIDIA]


def test_environment():
    """Every setting is a variable, too; several values stand on a line each, and an empty one is not set."""
    plan = parse(
        [],
        {
            "LLMVITALS_EXPORTER_WATCH": "app=python\n  db=a,b \n",
            "LLMVITALS_EXPORTER_COLLECTOR_TIMEOUT": "3",
            "LLMVITALS_EXPORTER_PORT": " ",
            "OTHER": "x",
        },
    )

    assert (3.0, 9465) == (plan.timeout, plan.port)
    assert [("app", "python"), ("db", "a,b")] == groups(plan)


def test_flag_before_variable_before_file(write):
    """What is nearer to the start of the program wins, whole."""
    file = write("port: 1\nhost: file\nwatch: [a=file, b=file]\n")
    environment = {"LLMVITALS_EXPORTER_CONFIG": file, "LLMVITALS_EXPORTER_PORT": "2", "LLMVITALS_EXPORTER_HOST": "env"}
    plan = parse(["--port", "3", "--watch", "a=flag"], environment)

    assert ("env", 3) == (plan.host, plan.port)
    assert [("a", "flag")] == groups(plan)


def test_all_mistakes_of_all_sources_at_once(write):
    """Whatever is wrong in flags, environment and file is told in one go, each with its place."""
    file = write("port: no\nwatsh: {a: x}\nwatch: {b: '('}\nhost: [[a]]\nport: 2\n")
    with pytest.raises(UsageError) as error:
        parse(
            ["--config", file, "--nvidia", "maybe"],
            {"LLMVITALS_EXPORTER_COLLECTOR_TIMEOUT": "never", "LLMVITALS_EXPORTER_HOTS": "x"},
        )
    told = "\n".join(error.value.problems)

    for part in (
        f"{file} line 1, port: 'no' is not a port",
        f"{file} line 2, watsh: there is no such setting; did you mean watch?",
        f"{file} line 3, watch: the pattern of 'b' is not a regular expression",
        f"{file} line 4, host: has a sequence on line 4 where a single value is meant",
        f"{file} line 5, port: is set a second time",
        "LLMVITALS_EXPORTER_COLLECTOR_TIMEOUT: 'never' is not a number of seconds",
        "LLMVITALS_EXPORTER_HOTS: there is no such setting; did you mean LLMVITALS_EXPORTER_HOST?",
        "--nvidia: 'maybe'",
    ):
        assert part in told
    assert 8 == len(error.value.problems)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("- a\n", "is not a mapping of settings"),
        ("port\n", "is not a mapping of settings"),
        ("port: [\n", "is not YAML"),
        ("a: b: c\n", "line 1: is not YAML"),
        (b"\xff\xfe", "is not UTF-8"),
        ("[" * 5000, "is nested too deep"),
        (b"#" * (1 << 20) + b"#", "has more than 1048576 bytes"),
        ("{[a]: b}\n", "there is no such setting"),
        ("? {a: b}\n: c\n", "there is no such setting"),
        ("watch: *nowhere\n", "is not YAML"),
        ("config: other.yml\n", "config: there is no such setting"),
    ],
)
def test_strange_file(write, text, part):
    """A file that is none of ours is told as such, in one sentence."""
    (problem,) = problems("--config", write(text))

    assert part in problem


def test_no_file(tmp_path):
    """A file that cannot be read is told with its reason."""
    file = str(tmp_path / "none.yml")

    assert [f"{file}: cannot be read: No such file or directory"] == problems("--config", file)
    assert [f"{tmp_path}: cannot be read: Is a directory"] == problems("--config", str(tmp_path))


def test_empty_file(write):
    """A file without a line that says anything changes nothing."""
    assert parse([], {}).port == parse(["--config", write("# nothing\n")], {}).port


def test_alias_is_no_bomb(write):
    """References are not multiplied: a billion laughs is refused at once."""
    laughs = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))

    assert 12 <= len(problems("--config", write(laughs)))


def test_kubernetes_service_links():
    """Beside a Kubernetes Service of its own name, the variables that the cluster adds are not taken for settings."""
    plan = parse(
        [],
        {
            "LLMVITALS_EXPORTER_PORT": "tcp://10.0.0.1:9465",
            "LLMVITALS_EXPORTER_SERVICE_HOST": "10.0.0.1",
            "LLMVITALS_EXPORTER_SERVICE_PORT": "9465",
            "LLMVITALS_EXPORTER_SERVICE_PORT_METRICS": "9465",
            "LLMVITALS_EXPORTER_PORT_9465_TCP": "tcp://10.0.0.1:9465",
            "LLMVITALS_EXPORTER_PORT_9465_TCP_ADDR": "10.0.0.1",
        },
    )

    assert 9465 == plan.port


@given(st.text(max_size=200))
def test_any_text_is_settings_or_mistakes(tmp_path_factory, text):
    """No content of a file ends the program otherwise than with its mistakes."""
    file = tmp_path_factory.getbasetemp() / "any.yml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    told = []
    try:
        parse(["--config", str(file)], {})
    except UsageError as error:
        told = error.problems

    assert not [problem for problem in told if not problem.startswith(str(file))]


def test_program_reads_them(write):
    """The program tells the mistakes of a file as those of its flags, and starts nothing."""
    result = subprocess.run(
        [sys.executable, "-m", "llmvitals_exporter", "--once", "--config", write("only: cpu, nothing\n")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (2, "") == (result.returncode, result.stdout)
    assert "line 1, only: there is no collector nothing; there are cpu," in result.stderr
