import json

import pytest
from tests.instrumentation.workers.services import run
from tests.servers import free_port

# On a machine that has too much to do, a worker may be late with its answer.
PATIENT = """
from llmvitals.workers import _peers
_peers.ASKED_SECONDS = 30.0
"""

FORK = (
    PATIENT
    + """
import os, signal, sys, llmvitals
from prometheus_client import Counter, Gauge
from prometheus_client.parser import text_string_to_metric_families
from urllib.request import urlopen

def scrape(vitals):
    with urlopen(f"http://127.0.0.1:{vitals.metrics_port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

def value(samples, name, **labels):
    found = [s.value for s in samples if s.name == name and labels.items() <= s.labels.items()]
    return sum(found) if found else None

def call(vitals, times=1):
    for _ in range(times):
        with vitals.call(provider="local", model="talker"):
            pass

CALLS = "gen_ai_client_operation_duration_seconds_count"
"""
)


def test_a_fork_counts_what_it_does_and_nothing_that_its_parent_did():
    """Own and foreign counters, in flight, and states; start() in the child gives the parent's, and says nothing."""
    script = """
orders, depth = Counter("orders", ""), Gauge("depth", "")
vitals = llmvitals.start(port=0)
orders.inc(3); depth.set(1); call(vitals, 3); vitals.operation("talker", target_seconds=2.0)
ready, told = os.pipe()
with vitals.call(provider="local", model="talker"):
    child = os.fork()
    if child == 0:
        assert llmvitals.start(port=0) is vitals
        assert vitals.metrics_port
        call(vitals, 2); orders.inc(2)
        os.write(told, b"x")
        signal.pause()
        os._exit(0)
    os.read(ready, 1)
    samples = scrape(vitals)
    assert 2 == value(samples, "llmvitals_workers")
    assert 5 == value(samples, CALLS)
    assert 5 == value(samples, "orders_total")
    assert 1 == value(samples, "llmvitals_calls_in_flight")
    assert 2 == value(samples, "llmvitals_operation_target_seconds")
    assert {"0", "1"} == {s.labels["worker"] for s in samples if s.name == "depth"}
os.kill(child, 9)
os.waitpid(child, 0)
for _ in range(2):
    samples = scrape(vitals)
    assert 1 == value(samples, "llmvitals_workers")
    assert 6 == value(samples, CALLS)
    assert 5 == value(samples, "orders_total")
    assert {"0"} == {s.labels["worker"] for s in samples if s.name == "depth"}
vitals.close()
base = os.environ["LLMVITALS_WORKERS_DIR"]
assert ["lock"] == os.listdir(base), os.listdir(base)
"""
    run(FORK + script)


def test_a_process_by_itself_shows_what_it_always_did():
    """The same bytes as without the mode, but for what changes by itself; no worker is named."""
    script = """
import re
from prometheus_client import CollectorRegistry
texts = []
for workers in ("off", ""):
    registry = CollectorRegistry()
    Gauge("depth", "", registry=registry).set(1)
    with llmvitals.start(port=0, registry=registry, workers=workers) as vitals:
        call(vitals)
        with urlopen(f"http://127.0.0.1:{vitals.metrics_port}/metrics", timeout=10) as answer:
            texts.append(re.sub(r"(?m) \\S+$", "", answer.read().decode()))
assert texts[0] == texts[1], texts
assert "worker" not in texts[1]
"""
    run(FORK + script)


def test_a_fork_that_ends_at_once_leaves_no_file_for_long():
    """What runs another program, or nothing: the next scrape folds its empty file."""
    script = """
import subprocess
vitals = llmvitals.start(port=0)
call(vitals)
for _ in range(5):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    subprocess.run(["true"], preexec_fn=lambda: None, check=True)
samples = scrape(vitals)
assert 1 == value(samples, CALLS)
(group,) = [p for p in os.scandir(os.environ["LLMVITALS_WORKERS_DIR"]) if p.is_dir()]
assert 3 >= len([name for name in os.listdir(group.path) if name.startswith("w")]), os.listdir(group.path)
"""
    run(FORK + script)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("parent_starts", [True, False], ids=["parent starts", "children start"])
def test_the_processes_of_multiprocessing_are_one_service(tmp_path, method, parent_starts):
    """However they are made, and whoever starts first; what they counted themselves is exact after an orderly end."""
    module = tmp_path / "children.py"
    module.write_text(
        PATIENT
        + """
import os, sys, json, llmvitals
from prometheus_client import Counter
from urllib.request import urlopen
orders = Counter("orders", "")

def count(port, queue, ready):
    vitals = llmvitals.start("pool", port=port)
    with vitals.call(provider="local", model="talker"):
        orders.inc(2)
    queue.put(os.getpid())
    ready.wait(30)

def scrape(port):
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line[0] != "#"]
    return {line.rpartition(" ")[0].partition("{")[0]: float(line.rpartition(" ")[2]) for line in lines}
"""
    )
    script = """
import sys, json
sys.path.insert(0, sys.argv[1])
import multiprocessing, children, llmvitals
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[2])
    port, starts = int(sys.argv[3]), sys.argv[4] == "True"
    if starts:
        llmvitals.start("pool", port=port)
        children.orders.inc(5)
    queue, ready = context.Queue(), context.Event()
    made = [context.Process(target=children.count, args=(port, queue, ready)) for _ in range(3)]
    for process in made: process.start()
    for _ in made: queue.get(timeout=30)
    during = children.scrape(port)
    ready.set()
    for process in made[:2 if not starts else 3]: process.join(30)
    if not starts:
        vitals = llmvitals.start("pool", port=port)
    after = children.scrape(port)
    print(json.dumps([during, after]))
"""
    file = tmp_path / "main.py"
    file.write_text(script)
    out = run(
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')",
        file,
        tmp_path,
        method,
        free_port(),
        parent_starts,
    )
    during, after = json.loads(out)

    extra = 5 if parent_starts else 0
    for seen in (during, after):
        assert 6 + extra == seen["orders_total"]
        assert 3 == seen["gen_ai_client_operation_duration_seconds_count"]
    assert 3 + parent_starts == during["llmvitals_workers"]


def test_only_one_worker_leads_and_the_next_takes_over():
    """Commands reach one process at a time: when it ends, another begins to ask; it is told once."""
    script = """
import logging, threading
messages = []
class Keep(logging.Handler):
    def emit(self, record): messages.append(record.getMessage())
logging.getLogger("llmvitals").addHandler(Keep())
logging.getLogger("llmvitals").propagate = False
ready, told = os.pipe()
go, going = os.pipe()
first = os.fork()
vitals = llmvitals.start(port=0, service="led")
acts = threading.Event()
if first == 0:
    vitals._workers.lead(acts.set)
    assert acts.is_set()
    os.write(told, b"l")
    os.read(go, 1)
    os._exit(0)
os.read(ready, 1)
vitals._workers.lead(acts.set)
assert not acts.wait(0.3)
assert 1 == len([m for m in messages if "another worker" in m]), messages
os.write(going, b"x")
os.waitpid(first, 0)
assert acts.wait(10)
vitals.close()
"""
    run(FORK + script)


def test_a_name_makes_one_service_of_programs_of_their_own(tmp_path):
    """Started by hand, with nothing in common but the variable."""
    script = """
import subprocess
vitals = llmvitals.start("named", port=0, workers="by-hand")
call(vitals, 2)
if len(sys.argv) == 2:
    other = subprocess.run([sys.executable, sys.argv[1], "again", "again"], capture_output=True, text=True)
    assert (0, "") == (other.returncode, other.stderr), other
    assert 4 == value(scrape(vitals), CALLS)
else:
    assert 4 == value(scrape(vitals), CALLS)
"""
    file = tmp_path / "named.py"
    file.write_text(FORK + script)
    run(f"import runpy, sys; sys.argv = ['x', {str(file)!r}]; runpy.run_path({str(file)!r})")


def test_exemplars_of_other_workers_are_shown():
    """The latest of each bucket, whichever worker has it; what is read at scrape, or was put off, is there, too."""
    script = """
from urllib.request import Request
from llmvitals import catalogue
vitals = llmvitals.start(port=0)
ready, told = os.pipe()
vitals.recorder.child(catalogue.HEALTH_DURATION, "db").exemplify(0.02, {"trace_id": "early"}, 1.0)
vitals.recorder.child(catalogue.HEALTH_DURATION, "db").observe(0.02)
child = os.fork()
if child == 0:
    duration = vitals.recorder.child(catalogue.HEALTH_DURATION, "db")
    duration.observe(0.02)
    duration.exemplify(0.02, {"trace_id": "late"}, 2.0)
    vitals.recorder.later(lambda: duration.observe(9.0))
    vitals.recorder.read_at_scrape(catalogue.CACHE_ENTRIES, "c", read=lambda: 7.0)
    os.write(told, b"x")
    signal.pause()
os.read(ready, 1)
accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
with urlopen(Request(f"http://127.0.0.1:{vitals.metrics_port}/metrics", headers=accept), timeout=10) as answer:
    text = answer.read().decode()
os.kill(child, 9)
os.waitpid(child, 0)
(line,) = [line for line in text.splitlines() if "trace_id" in line]
assert "} 2.0 # {" in line and 'trace_id="late"' in line, line
assert 'llmvitals_health_check_duration_seconds_count{check="db"} 3.0' in text, text
assert 'llmvitals_cache_entries{cache="c"} 7.0' in text
assert text.endswith("# EOF\\n")
"""
    run(FORK + script)
