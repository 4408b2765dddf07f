import asyncio
import uuid
from collections import Counter
from contextvars import copy_context

import pytest
from tests.examples.faulty import faulty_llm

import llmvitals

pytest.importorskip("langchain_core")

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import FakeListLLM, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers import context

USAGE = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}


class Model(GenericFakeChatModel):
    """A model with no SDK that anybody watches: its first message is what it says, or raises."""

    def _get_ls_params(self, stop=None, **kwargs):
        return {"ls_provider": "local", "ls_model_name": "talker", "ls_model_type": "chat"}

    def _generate(self, *args, **kwargs):
        message = next(self.messages)
        if isinstance(message, Exception):
            raise message
        self.messages = iter([message])
        return super()._generate(*args, **kwargs)

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        for text in ("", "Fine", "."):
            chunk = ChatGenerationChunk(message=AIMessageChunk(text))
            if run_manager is not None:
                run_manager.on_llm_new_token(text, chunk=chunk)
            yield chunk
        yield ChatGenerationChunk(message=AIMessageChunk("", usage_metadata=USAGE))


def says(message=None):
    answer = AIMessage("Fine.", usage_metadata=USAGE, response_metadata={"model_name": "talker-7b"})
    return Model(messages=iter([message or answer]))


def by(vitals, family, label):
    """Sum the samples of a family by the values of one label."""
    sums = Counter()
    for labels, value in vitals.samples(family).items():
        sums[dict(labels)[label]] += value
    return dict(sums)


def durations(vitals, **labels):
    return vitals.value("gen_ai_client_operation_duration_seconds_count", **labels)


def tokens(vitals):
    return by(vitals, "gen_ai_client_token_usage_sum", "gen_ai_token_type")


def ends(vitals):
    return by(vitals, "llmvitals_stream_ends_total", "reason")


def test_a_model_without_an_sdk(vitals):
    """Chat and text, with provider, model and tokens; sync and async."""
    assert "Fine." == says().invoke("How are you?").content
    assert "Fine." == asyncio.run(says().ainvoke("How are you?")).content
    assert "Fine." == FakeListLLM(responses=["Fine."]).invoke("How are you?")

    labels = {"gen_ai_provider_name": "local", "gen_ai_request_model": "talker", "gen_ai_response_model": "talker-7b"}
    assert 2 == durations(vitals, gen_ai_operation_name="chat", error_type="", **labels)
    assert 1 == durations(vitals, gen_ai_operation_name="text_completion")
    assert {"input": 14, "output": 10} == tokens(vitals)
    assert 0 == vitals.value("llmvitals_calls_in_flight")


def test_streams(vitals):
    """The first chunk is not the first output; ends are told apart."""
    assert "Fine." == "".join(chunk.content for chunk in says().stream("How are you?"))

    async def read():
        return "".join([chunk.content async for chunk in says().astream("How are you?")])

    assert "Fine." == asyncio.run(read())
    left = says().stream("How are you?")
    next(left)
    assert 1 == vitals.value("llmvitals_calls_in_flight")
    left.close()

    assert 3 == durations(vitals)
    assert {"completed": 2, "cancelled": 1} == ends(vitals)
    assert 3 == vitals.value("gen_ai_client_operation_time_to_first_chunk_seconds_count")
    assert 2 == vitals.value("llmvitals_time_to_first_output_seconds_count")
    assert {"input": 14, "output": 10} == tokens(vitals)


def test_errors_come_out_as_they_are(vitals):
    """The same object, and its class as the error."""
    error = LookupError("no such model")
    with pytest.raises(LookupError) as raised:
        says(error).invoke("How are you?")

    assert error is raised.value
    assert error.__context__ is None
    assert 1 == durations(vitals, error_type="LookupError")


def test_a_cancelled_stream(vitals):
    """The task ends as cancelled."""

    async def cancel():
        seen = asyncio.Event()

        async def read():
            async for _ in says().astream("How are you?"):
                seen.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(read())
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(10):
            while not ends(vitals):  # noqa: ASYNC110 -- the loop closes the generator behind our back
                await asyncio.sleep(0)
        return task.cancelled()

    assert asyncio.run(cancel())
    assert {"cancelled": 1} == ends(vitals)
    assert 0 == vitals.value("llmvitals_calls_in_flight")


def test_an_sdk_counts_its_own(vitals, tmp_path):
    """Plain, streamed, async and in a batch: a call is one call, and what comes between two chunks is another."""
    chat = pytest.importorskip("langchain_openai")
    with faulty_llm(log=tmp_path / "log") as faulty:
        faulty.reset()
        model = chat.ChatOpenAI(model="talker", base_url=faulty.url(), api_key="none", max_retries=0)
        model.invoke("How are you?")
        model.batch(["How are you?", "And you?"])
        model.generate([[HumanMessage("How are you?")], [HumanMessage("And you?")]])
        for _ in model.stream("How are you?"):
            pass

        async def ask():
            await model.ainvoke("How are you?")
            async for _ in model.astream("How are you?"):
                pass
            await model.root_async_client.close()

        asyncio.run(ask())
        assert 8 == durations(vitals) == faulty.ledger()["requests"]
        assert 8 == durations(vitals, gen_ai_provider_name="primary", gen_ai_response_model="talker")

        between = says().stream("How are you?")
        next(between)
        model.invoke("How are you?")
        list(between)
        assert 10 == durations(vitals)
        assert 1 == durations(vitals, gen_ai_provider_name="local")
        model.root_client.close()


def test_an_own_call_is_not_counted_twice(vitals):
    """It takes up what langchain learns."""
    with vitals.call(provider="mine", model="mine"):
        says().invoke("How are you?")

    assert 1 == durations(vitals)
    assert 1 == durations(vitals, gen_ai_provider_name="mine", gen_ai_response_model="talker-7b")


def test_tools_agents_workflows_and_retrievals(vitals):
    """By their names; what runs inside of an agent is not one more, and a chain within a chain is no workflow."""

    @tool
    def weather(city: str) -> str:
        """Tell the weather."""
        if city == "Atlantis":
            raise LookupError(city)
        return "sunny"

    class Books(BaseRetriever):
        def _get_relevant_documents(self, query, *, run_manager):
            return [Document("Once upon a time")]

    def act(question):
        weather.invoke({"city": "Rome"})
        return says().invoke(question).content

    agent = RunnableLambda(act, name="WeatherAgent") | RunnableLambda(str, name="to_text")
    chain = RunnableLambda(lambda question: agent.with_config(run_name="WeatherAgent").invoke(question), name="plan")
    chain.with_config(run_name="travel").invoke("How is it in Rome?")
    with pytest.raises(LookupError):
        weather.invoke({"city": "Atlantis"})
    Books().invoke("tales")

    def runs(family, label):
        return by(vitals, f"gen_ai_{family}_duration_seconds_count", label)

    assert {"weather": 2} == runs("execute_tool", "gen_ai_tool_name")
    assert {"": 1, "LookupError": 1} == runs("execute_tool", "error_type")
    assert {"WeatherAgent": 1} == runs("invoke_agent", "gen_ai_agent_name")
    assert {"travel": 1} == runs("workflow", "gen_ai_workflow_name")
    assert 1 == durations(vitals, gen_ai_operation_name="retrieval", gen_ai_provider_name="books")


def test_ends_come_from_any_thread_and_may_not_come(vitals, monkeypatch):
    """What is started is found by its id; more than can be is given up."""
    import llmvitals.integrations._langchain as ours

    monkeypatch.setattr(ours, "_RUNS_KEPT", 3)
    handler = llmvitals.integrations.LangChainCallback(vitals)
    runs = [uuid.uuid4() for _ in range(5)]
    for run in runs:
        copy_context().run(handler.on_tool_start, {"name": "weather"}, "Rome", run_id=run)
    for run in runs:
        handler.on_tool_end("sunny", run_id=run)

    ended = by(vitals, "gen_ai_execute_tool_duration_seconds_count", "error_type")
    assert {"": 3, "NeverEnded": 2} == ended
    assert {} == handler._runs


def test_the_applications_own_callbacks_stay(vitals):
    """They hear the same; one of ours among them does not count twice."""
    heard = []

    class Theirs(BaseCallbackHandler):
        def on_llm_end(self, response, **about):
            heard.append(response.generations[0][0].text)

    callbacks = [Theirs(), llmvitals.integrations.LangChainCallback(vitals)]
    says().invoke("How are you?", config={"callbacks": callbacks})

    assert ["Fine."] == heard
    assert 2 == len(callbacks)
    assert 1 == durations(vitals)


def test_a_fault_of_ours_stays_with_us(vitals, monkeypatch):
    """The application has its reply; the fault is counted."""
    import llmvitals.integrations._langchain as ours

    def broken(*args):
        raise RuntimeError("ours")

    monkeypatch.setattr(ours, "_read", broken)

    assert "Fine." == says().invoke("How are you?").content
    assert 1 == vitals.value("llmvitals_instrumentation_errors_total", component="langchain")


def test_uninstrument_restores_exactly():
    """The hooks of langchain are those that it had."""
    before = list(context._configure_hooks)
    assert "langchain" in llmvitals.instrument()
    during = list(context._configure_hooks)
    llmvitals.uninstrument()

    assert len(before) + 1 == len(during)
    assert list(map(id, before)) == list(map(id, context._configure_hooks))
