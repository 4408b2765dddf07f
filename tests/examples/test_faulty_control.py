"""faulty_llm's control port, its KoboldCpp side, and its command line."""

import json
import signal
import subprocess
import sys

import pytest
from tests.examples.faulty import faulty_llm
from tests.servers import free_port, request


def test_dials_are_partial(faulty):
    """A PUT changes what it names, and answers with all dials."""
    faulty.turn(latency_seconds=1, models={"thinker": {"tokens_per_second": 5}})
    answer = faulty.turn(error_ratio=0.25, models={"talker": {"latency_seconds": 2}}).json()

    assert (1, 0.25) == (answer["latency_seconds"], answer["error_ratio"])
    assert 5 == answer["models"]["thinker"]["tokens_per_second"]
    assert {"latency_seconds": 2} == answer["models"]["talker"]
    assert answer == request(f"{faulty.control}/dials/primary").json()


def test_null_takes_a_models_own_dials_back(faulty):
    """For a model, null gives a dial, or all of them, back to the provider."""
    faulty.turn(models={"talker": {"latency_seconds": 2, "error_ratio": 1}})

    assert {"error_ratio": 1} == faulty.turn(models={"talker": {"latency_seconds": None}}).json()["models"]["talker"]
    assert "talker" not in faulty.turn(models={"talker": None}).json()["models"]


@pytest.mark.parametrize(
    ("dials", "says"),
    [
        ({"latency_seconds": -1}, "latency_seconds: -1 is not allowed, it must be a number from 0 to 600"),
        ({"latency_seconds": "1"}, "latency_seconds: '1' is not allowed"),
        ({"latency_seconds": True}, "latency_seconds: True is not allowed"),
        ({"latency_seconds": float("nan")}, "latency_seconds: nan is not allowed"),
        ({"latency_seconds": 10**400}, "is not allowed, it must be a number from 0 to 600"),
        ({"tokens_per_second": 0}, "it must be a number from 0.1 to 100000"),
        ({"error_ratio": 1.5}, "it must be a number from 0 to 1"),
        ({"error_status": 200}, "it must be a whole number from 400 to 599"),
        ({"error_status": 429.5}, "it must be a whole number from 400 to 599"),
        ({"stall_after_chunks": -1}, "or null"),
        ({"refuse": 1}, "refuse: 1 is not allowed, it must be true or false"),
        ({"speed": 1}, "speed: no such dial, there are latency_seconds"),
        ({"models": {"gpt-4": {}}}, "models.gpt-4: no such model, there are talker, thinker"),
        ({"models": {"talker": {"refuse": True}}}, "models.talker.refuse: no such dial"),
        ({"models": []}, "models: must be an object"),
    ],
)
def test_bad_dials(faulty, dials, says):
    """A value that a dial cannot take is refused with the allowed range, and nothing changes."""
    before = request(f"{faulty.control}/dials/primary").json()
    answer = faulty.turn(**dials)

    assert 400 == answer.status
    assert says in answer.json()["error"]
    assert before == request(f"{faulty.control}/dials/primary").json()


def test_all_mistakes_are_told_at_once(faulty):
    """Two wrong dials are two problems; the right one beside them is not set."""
    answer = faulty.turn(latency_seconds=-1, error_status=1, error_ratio=1)

    assert 2 == len(answer.json()["problems"])
    assert 0 == request(f"{faulty.control}/dials/primary").json()["error_ratio"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [("/dials/tertiary", b"{}", 404), ("/dials/primary", b"{", 400), ("/dials/primary", b" " * 70_000, 413)],
)
def test_control_port_refuses(faulty, path, body, status):
    """An unknown provider, a body that is not JSON, and one that is too large."""
    assert status == request(f"{faulty.control}{path}", method="PUT", body=body).status


def test_koboldcpp_generate_and_perf(faulty):
    """A KoboldCpp client gets text, and perf tells of that generation."""
    url = faulty.providers["primary"]
    before = request(f"{url}/api/extra/perf").json()
    result = request(f"{url}/api/v1/generate", data={"prompt": "hello", "max_length": 5}).json()["results"][0]
    after = request(f"{url}/api/extra/perf").json()

    assert ("length", 5) == (result["finish_reason"], result["completion_tokens"])
    assert before["total_gens"] + 1 == after["total_gens"]
    assert (5, 0, 1) == (after["last_token_count"], after["queue"], after["idle"])
    assert after["last_eval_speed"] > 0


def test_koboldcpp_stream(faulty):
    """The stream's tokens join to the plain text, and the last event says why it ended."""
    url = faulty.providers["primary"]
    whole = request(f"{url}/api/v1/generate", data={"prompt": "hello"}).json()["results"][0]["text"]
    answer = request(f"{url}/api/extra/generate/stream", data={"prompt": "hello"}).text
    events = [json.loads(block.partition("data: ")[2]) for block in answer.strip().split("\n\n")]

    assert whole == "".join(event["token"] for event in events)
    assert "stop" == events[-1]["finish_reason"]


def test_koboldcpp_says_what_it_is(faulty):
    """Model and version have KoboldCpp's form."""
    url = faulty.providers["primary"]

    assert {"result": "koboldcpp/talker"} == request(f"{url}/api/v1/model").json()
    assert "KoboldCpp" == request(f"{url}/api/extra/version").json()["result"]
    assert 400 == request(f"{url}/api/v1/generate", data={"prompt": 3}).status


def test_seed_decides_the_words(tmp_path):
    """Another seed, other words."""
    said = []
    for seed in ("1", "1", "2"):
        with faulty_llm(f"--seed={seed}", log=tmp_path / "log") as faulty:
            answer = request(f"{faulty.providers['primary']}/api/v1/generate", data={"prompt": "hello"})
            said.append(answer.json()["results"][0]["text"])

    assert said[0] == said[1] != said[2]


def test_orderly_end_with_a_stream_open(tmp_path):
    """SIGTERM ends the process with status 0 although a stream hangs."""
    with faulty_llm(log=tmp_path / "log") as faulty:
        faulty.turn(stall_after_chunks=0)
        body = json.dumps({"prompt": "hello"})
        hanging = subprocess.Popen(
            ["curl", "-sN", f"{faulty.providers['primary']}/api/extra/generate/stream", "-d", body],
            stdout=subprocess.DEVNULL,
        )
        while faulty.ledger()["in_flight"] == 0:
            assert hanging.poll() is None
        faulty.process.send_signal(signal.SIGTERM)

        assert 0 == faulty.process.wait(5)
        hanging.wait(5)
        assert "Traceback" not in faulty.log.read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--listen", "primary"], "is not NAME=PORT"),
        (["--listen", "primary=99999"], "is not a port"),
        (["--listen", "a=0", "--listen", "a=0"], "given once"),
    ],
)
def test_bad_command_line(arguments, says):
    """A wrong flag is told in words, with status 2."""
    ended = subprocess.run(
        [sys.executable, "-m", "faulty_llm", *arguments], capture_output=True, text=True, check=False
    )

    assert 2 == ended.returncode
    assert says in ended.stderr


def test_port_taken(faulty):
    """A port that is taken is told, with status 1."""
    taken = faulty.control.rpartition(":")[2]
    command = [sys.executable, "-m", "faulty_llm", f"--listen=primary={free_port()}", f"--control-port={taken}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert 1 == ended.returncode
    assert "cannot listen" in ended.stderr
