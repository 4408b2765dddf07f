"""Faults of servers beside the demo's own: an engine's queue and cache, Prometheus and Alertmanager that are broken."""

import contextlib
import functools
import http.server
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import requests
import yaml
from tests.stack import checkout
from tests.stack.demo_world import Undo, World, answering
from tests.stack.fault import Fault

# Prometheus sends 64 alerts at once: what waits must be far more.
_QUEUE = 400


def _alertmanagers(world: World) -> Undo:
    """A cluster of two, of which one is killed."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmvitals-cluster-")))
        config = folder / "alertmanager.yml"
        config.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n", encoding="utf-8")
        program = shutil.which("alertmanager") or "prometheus-alertmanager"
        first, second, *gossip = checkout.free_ports(4)
        for port, own, other in ((first, *gossip), (second, *reversed(gossip))):
            command = [program, f"--config.file={config}", f"--storage.path={folder / str(port)}"]
            command += [f"--web.listen-address=127.0.0.1:{port}", f"--cluster.listen-address=127.0.0.1:{own}"]
            command += [f"--cluster.advertise-address=127.0.0.1:{own}", f"--cluster.peer=127.0.0.1:{other}"]
            killed = _program(stack, command)
        _until(lambda: "\nalertmanager_cluster_members 2" in _page(first))
        killed.kill()
        stack.callback(world.scraped("alertmanager-pair", first))
        return stack.pop_all().close


def _prometheus_without_pace(world: World) -> Undo:
    """A rule each second that waits three for a remote store, and alerts for an Alertmanager that takes ten."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmvitals-prometheus-")))
        slow = stack.enter_context(_slow({"/read": 3, "/api/v2/alerts": 8}))
        rules = [{"alert": f"Fault{number}", "expr": "vector(1)"} for number in range(2 * _QUEUE)]
        groups = [
            {"name": "late", "interval": "1s", "rules": [{"record": "fault:late", "expr": "up"}]},
            {"name": "many", "interval": "1s", "rules": rules},
        ]
        (folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
        config = {
            "rule_files": ["rules.yml"],
            "remote_read": [{"url": f"http://127.0.0.1:{slow}/read", "read_recent": True}],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{slow}"]}]}]},
        }
        more = (f"--alertmanager.notification-queue-capacity={_QUEUE}", "--rules.alert.resend-delay=1s")
        port, _ = _prometheus(stack, folder, config, *more)
        stack.callback(world.scraped("prometheus-without-pace", port))
        return stack.pop_all().close


def _broken_log(world: World) -> Undo:
    """A Prometheus is killed, and finds its write-ahead log broken when it starts again."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmvitals-prometheus-")))
        port = checkout.free_ports(1)[0]
        scrape = {"job_name": "self", "scrape_interval": "1s", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        config = {"scrape_configs": [scrape]}
        _, first = _prometheus(stack, folder, config, port=port)
        stack.callback(world.scraped("prometheus-with-a-broken-log", port))
        # Long enough for the demo's Prometheus to see that nothing was broken yet.
        time.sleep(10)
        first.kill()
        first.wait()
        log = min((folder / "data" / "wal").glob("0*"))
        content = bytearray(log.read_bytes())
        content[200:300] = b"\xff" * 100
        log.write_bytes(content)
        _prometheus(stack, folder, config, port=port)
        return stack.pop_all().close


def _remote_writing(world: World) -> Undo:
    """A Prometheus hands its samples to a store that refuses them, and to one that is away after half a minute."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmvitals-prometheus-")))
        begun = time.monotonic()
        stores = {"/refuses": lambda: 400, "/away": lambda: 200 if time.monotonic() < begun + 30 else 503}
        store = stack.enter_context(_store(stores))
        port = checkout.free_ports(1)[0]
        scrape = {"job_name": "self", "scrape_interval": "5s", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        remotes = [{"name": path[1:], "url": f"http://127.0.0.1:{store}{path}"} for path in stores]
        _prometheus(stack, folder, {"scrape_configs": [scrape], "remote_write": remotes}, port=port)
        stack.callback(world.scraped("prometheus-with-remotes", port))
        return stack.pop_all().close


def _full_storage(world: World) -> Undo:
    """A Prometheus whose blocks, of yesterday and back-filled, take 95 % of what it may keep."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmvitals-prometheus-")))
        begin = int(time.time()) - 86_400
        page = folder / "page.om"
        lines = (f"fault_kept {moment % 97} {moment}\n" for moment in range(begin, begin + 3600))
        page.write_text("".join(lines) + "# EOF\n", encoding="utf-8")
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(page), str(folder / "data")]
        subprocess.run(command, check=True, capture_output=True, text=True)
        kept = sum(file.stat().st_size for file in (folder / "data").rglob("*") if file.is_file())
        # It scrapes nothing: what is not in a block yet would count, too.
        port, _ = _prometheus(stack, folder, {}, f"--storage.tsdb.retention.size={int(kept / 0.95)}B")
        stack.callback(world.scraped("prometheus-with-little-room", port))
        return stack.pop_all().close


def _prometheus(
    stack: contextlib.ExitStack, folder: Path, config: object, *more: str, port: int | None = None
) -> tuple[int, "subprocess.Popen[bytes]"]:
    port = port or checkout.free_ports(1)[0]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    process = _program(stack, [*command, f"--web.listen-address=127.0.0.1:{port}", *more])
    _until(lambda: bool(_page(port)))
    return port, process


def _program(stack: contextlib.ExitStack, command: list[str]) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end() -> None:
        process.kill()
        process.wait()

    stack.callback(end)
    return process


def _page(port: int) -> str:
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    return ""


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("a server of the fault's own does not get ready")
        time.sleep(0.5)


@contextlib.contextmanager
def _slow(seconds: dict[str, float]) -> Iterator[int]:
    """A server that answers a POST late."""
    ended = threading.Event()

    def late(path: str) -> int:
        ended.wait(seconds[path])
        return 200

    with _store({path: functools.partial(late, path) for path in seconds}) as port:
        try:
            yield port
        finally:
            ended.set()


@contextlib.contextmanager
def _store(answers: dict[str, Callable[[], int]]) -> Iterator[int]:
    """A server that answers a POST with what its path's function gives."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(answers[self.path]())
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with answering(Handler) as port:
        yield port


SERVER_FAULTS = (
    Fault(
        "an engine's KV cache is full, and running requests are put back",
        ("InferenceKVCacheFull",),
        0,
        700,
        lambda world: world.engine("talker", kv_cache_usage=0.98),
    ),
    Fault(
        "an engine does not have its thinker any more",
        ("InferenceModelMissing",),
        0,
        1300,
        lambda world: world.engine("thinker", loaded=0),
    ),
    Fault(
        "one of a cluster of two Alertmanagers is killed",
        ("AlertmanagerPeersLost",),
        0,
        1100,
        _alertmanagers,
    ),
    Fault(
        "a second Prometheus has a rule that takes longer than its interval, and an Alertmanager that takes 8 s",
        ("PrometheusRulesLate", "PrometheusNotificationQueueFull"),
        0,
        900,
        _prometheus_without_pace,
    ),
    Fault(
        "a second Prometheus is killed, and finds its write-ahead log broken",
        ("PrometheusStorageFailing",),
        0,
        600,
        _broken_log,
    ),
    Fault(
        "a second Prometheus writes to a store that refuses all, and to one that is soon away",
        ("PrometheusRemoteWriteFailing", "PrometheusRemoteWriteBehind"),
        0,
        1680,
        _remote_writing,
    ),
    Fault(
        "a second Prometheus has filled 95 % of what it may keep (back-filled)",
        ("PrometheusStorageAlmostFull",),
        0,
        2100,
        _full_storage,
    ),
)
