"""A server of OpenAI's APIs that answers by the model's name, for the tests of what is watched."""

import json
from http.server import BaseHTTPRequestHandler

from tests.instrumentation.integrations.conftest import Server

COMPLETION = {"id": "1", "object": "chat.completion", "created": 1, "model": "talker-2026"}
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
MESSAGE = {
    "type": "message", "id": "2", "role": "assistant", "status": "completed",
    "content": [{"type": "output_text", "text": "Fine", "annotations": []}],
}  # fmt: skip
RESPONSE = {
    "id": "1", "object": "response", "created_at": 1, "model": "talker-2026", "status": "completed",
    "output": [MESSAGE], "parallel_tool_calls": False, "tool_choice": "auto", "tools": [],
    "usage": {
        "input_tokens": 7, "input_tokens_details": {"cached_tokens": 3},
        "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 12,
    },
}  # fmt: skip


def choice(**fields):
    return {"index": 0, "finish_reason": None, **fields}


def chunk(**delta):
    return COMPLETION | {"object": "chat.completion.chunk", "choices": [choice(delta=delta)]}


def of_item(kind, **fields):
    return {"type": f"response.{kind}", "item_id": "2", "output_index": 0, "content_index": 0, **fields}


CHUNKS = [chunk(role="assistant", content=""), chunk(reasoning_content="Hm"), chunk(content="Fine")]
BEGUN = RESPONSE | {"status": "in_progress", "output": [], "usage": None}
EVENTS = [
    {"type": "response.created", "response": BEGUN},
    {"type": "response.output_item.added", "output_index": 0, "item": MESSAGE | {"content": []}},
    of_item("content_part.added", part={"type": "output_text", "text": "", "annotations": []}),
    of_item("reasoning_text.delta", delta="Hm"),
    of_item("output_text.delta", delta="Fi", logprobs=[]),
    of_item("output_text.delta", delta="ne", logprobs=[]),
    of_item("output_text.done", text="Fine", logprobs=[]),
    {"type": "response.completed", "response": RESPONSE},
]


class Handler(BaseHTTPRequestHandler):
    """Answers by the model's name: "flaky-N" first N times with 503, "refused" with 400, "throttled" with 429, "broken"
    with an error amid its stream, "long" with an answer that was cut, any other well.
    """

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model, taken = body["model"], int(self.headers.get("x-stainless-retry-count", 0))
        self.server.requests += 1
        if model.startswith("flaky") and taken < int(model.rpartition("-")[2]):
            self.answer(503, {"error": {"message": "away"}})
        elif model in ("refused", "throttled"):
            self.answer(400 if model == "refused" else 429, {"error": {"message": "no"}})
        else:
            getattr(self, "post_" + self.path.rpartition("/")[2].partition("?")[0])(body)

    def post_completions(self, body):
        if not body.get("stream"):
            end = "length" if body["model"] == "long" else "stop"
            message = {"role": "assistant", "content": "Fine"}
            fields = {"text": "Fine"} if "prompt" in body else {"message": message}
            self.answer(200, COMPLETION | {"choices": [choice(**fields) | {"finish_reason": end}], "usage": USAGE})
            return
        if "prompt" in body:
            chunks = [COMPLETION | {"choices": [choice(text=text)]} for text in ("Fi", "ne")]
        else:
            chunks = CHUNKS
        if body["model"] == "broken":
            chunks = [CHUNKS[0], {"error": {"message": "out of memory"}}]
        elif (body.get("stream_options") or {}).get("include_usage"):
            chunks = [*chunks, chunk() | {"choices": [], "usage": USAGE}]
        self.stream(chunks)

    def post_responses(self, body):
        if body.get("stream"):
            self.stream([event | {"sequence_number": number} for number, event in enumerate(EVENTS)])
        else:
            self.answer(200, RESPONSE)

    def post_embeddings(self, body):
        vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        self.answer(200, {"object": "list", "model": "embedder", "data": [vector], "usage": usage})

    def answer(self, status, body):
        self.send("application/json", status, json.dumps(body), **{"retry-after-ms": "1"})

    def stream(self, events):
        self.send(
            "text/event-stream", 200, "".join(f"data: {text}\n\n" for text in (*map(json.dumps, events), "[DONE]"))
        )

    def send(self, kind, status, text, **headers):
        self.send_response(status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(text.encode()))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())


class OpenAIServer(Server):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = 0
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
