"""A service as gunicorn and uvicorn run it; variables say how it is started."""

import os
import signal
from urllib.parse import parse_qs

import psutil  # noqa: F401 -- what forks should have imported all that its forks need
from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily

import llmvitals
import llmvitals._memory
import llmvitals.agent
import llmvitals.exposition
from llmvitals import _current
from llmvitals.catalogue import OPERATIONS_IN_FLIGHT

SERVICE, PORT = os.environ.get("SHOP_SERVICE", "shop"), int(os.environ.get("SHOP_METRICS_PORT", "0"))

orders = Counter("shop_orders", "Orders.", ["kind"])
depth = Gauge("shop_depth", "A worker's own.")
most = Gauge("shop_most", "Of all workers.", multiprocess_mode="livemax")


class Sensor:
    def collect(self):
        yield GaugeMetricFamily("shop_sensor", "A custom collector's.", value=1)


REGISTRY.register(Sensor())


def start():
    llmvitals.start(SERVICE, port=PORT)


if os.environ.get("SHOP_STARTS", "import") == "import":
    start()


def work(path, query):
    """Record as much as is asked for, and say by whom and how much."""
    amount = int(parse_qs(query).get("n", ["1"])[0])
    vitals = _current.current()
    for _ in range(amount):
        with vitals.call(provider="local", model="talker") as call:
            call.usage(input_tokens=3)
        orders.labels("book").inc()
    if path == "/kill":
        vitals.recorder.child(OPERATIONS_IN_FLIGHT, "left").inc()
    depth.set(amount)
    most.set(amount)
    return f"{os.getpid()} {amount}".encode()


def app(environ, start_response):
    body = work(environ["PATH_INFO"], environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    yield body
    if environ["PATH_INFO"] == "/kill":
        # The client has been told: nothing of what it was told may be lost.
        os.kill(os.getpid(), signal.SIGKILL)


async def asgi_app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = work(scope["path"], scope["query_string"].decode())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
