"""What faulty_llm's ledger tells, beside what a client saw."""

import openai
import pytest
from tests.servers import eventually

QUESTION = [{"role": "user", "content": "How are you?"}]


@pytest.fixture(name="client")
def _client(faulty):
    with openai.OpenAI(base_url=faulty.url(), api_key="none", max_retries=2) as client:
        yield client


def served(faulty):
    eventually(lambda: faulty.ledger()["in_flight"] == 0, what="the last request ended")
    return faulty.ledger()["models"]["talker"]


def test_chunks_and_told_usage_are_counted(client, faulty):
    """Each chunk that a client of a whole stream gets, and the tokens that the answer told."""
    options = {"model": "talker", "messages": QUESTION, "stream": True}
    chunks = list(client.chat.completions.create(**options))
    told = list(client.chat.completions.create(**options, stream_options={"include_usage": True}))
    ledger = served(faulty)

    assert len(chunks) + len(told) == ledger["chunks"]
    assert 1 == ledger["usages"]
    assert told[-1].usage.completion_tokens == ledger["told_output_tokens"]
    assert told[-1].usage.prompt_tokens == ledger["told_input_tokens"]


def test_the_sdks_retries_are_told_apart(client, faulty):
    """By the number that the SDK sends along; the last one failed like the first."""
    faulty.turn(error_ratio=1, error_status=503, retry_after_seconds=0.001)
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="talker", messages=QUESTION)

    assert {number: {"error_503": 1} for number in ("0", "1", "2")} == served(faulty)["attempts"]


def test_a_stream_can_be_cut(client, faulty):
    """The client has half of the reply and then an error; the server's log stays clean."""
    faulty.turn(cut_ratio=1)
    before = faulty.log.read_text()
    text = []
    with pytest.raises(Exception, match=r"(?i)connection|closed"):
        text.extend(client.chat.completions.create(model="talker", messages=QUESTION, max_tokens=6, stream=True))
    ledger = served(faulty)

    assert {"cut": 1} == ledger["stream_outcomes"]
    assert 3 == ledger["output_tokens"]
    assert before == faulty.log.read_text()
