"""R1 to R23: what an exporter must stand, and the tests that hold it to that, so that none of them goes unnoticed."""

import ast
import dataclasses
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.exporter.reading import settings, until
from tests.exporter.test_adversity import successes
from tests.exporter.test_catalogue import excused
from tests.exporter.test_isolation import TROUBLE, collector_threads, declare, good
from tests.exporter.test_program import get, serving

from llmvitals.exposition import encode, encode_openmetrics, serve
from llmvitals_exporter._declaration import Reader
from llmvitals_exporter._runner import Runner
from llmvitals_exporter._scrape import Scrape
from llmvitals_exporter._site import Site
from llmvitals_exporter.catalogue import FAMILIES
from llmvitals_exporter.collectors import COLLECTORS
from llmvitals_exporter.collectors.nvidia import NVIDIA

#: Each requirement, in short, and below it its tests as file:test, those of this file without it.
REQUIREMENTS = """\
R1  one collector in trouble never costs another's series
    isolation:trouble_stays_with_its_collector isolation:failure_can_tell_its_health any_collector_in_trouble
    adversity:kernel_files_that_are_gone collector_that_cannot_be_opened
R2  deadlines, and a stuck collector is skipped
    isolation:stuck_collector_is_skipped isolation:scrape_has_a_time_of_its_own site:scrape_is_over_in_time
    isolation:late_result_is_thrown_away five_stuck_scrapes
R3  scrapes at once share one collection, and too many are refused
    isolation:concurrent_scrapes_share_one_collection a_hundred_scrapes_at_once
    isolation:a_part_shares_the_whole_and_waits_for_another_part
R4  idle, slow and unknown clients
    security:idle_and_slow_tls_clients_stop_nobody endurance:idle_and_slow_clients security:stranger_is_refused
    security:certificate_is_renewed web_config:mistake security:client_certificate
R5  what is not supported or permitted is absent
    nvml:unsupported_reading_is_absent nvml:blank_value_is_absent nvidia:implausible_reading_is_absent
    amd:no_value_is_absent gpu_troubles:forbidden_reading_is_told_once isolation:failure_is_logged_once
R6  a driver that is lost, unloaded, upgraded and back
    nvml:lost_driver_fails_the_collection nvml:start nvidia:lost_and_back nvidia:driver_unloaded_is_failure
    nvidia:no_driver_is_absence
R7  no card is a failure, fewer cards are told
    nvidia:no_gpu_is_failure nvml:no_card gpu_troubles:fewer_cards
R8  a driver's call that never returns
    adversity:stopped_driver nvidia:hanging_child_is_not_waited_for nvidia:exporter_ends_with_a_hanging_child
    nvidia:bad_child_is_replaced
R9  functions that an old library lacks
    nvml:function_missing_in_an_old_library
R10 XIDs are counted between scrapes and over failures
    nvml:xids nvml:xid_of_a_lost_card nvml:xids_where_they_are_not_supported gpu_cards:xids_outlive_the_child
R11 MIG
    nvml:instances nvml:activity_of_instances nvml:activity_needs_two_looks
R12 unified memory
    nvml:unified_memory_has_no_memory_series
R13 processes on a GPU, and their names
    nvml:processes gpu_troubles:hostile_names_of_processes
R14 what is gone vanishes, and the largest stand for many
    nvml:processes gpu_troubles:dead_processes_vanish gpu_troubles:fewer_cards
R15 containers
    cgroup:v1 cgroup:v2_container cgroup:v2_unlimited_is_absent cgroup:v1_unlimited_is_absent
    cgroup:v2_strictest_parent_limits cgroup:limits_beyond_the_host_limit_nothing cgroup:no_control_group
R16 psutil's exceptions, and both of its versions
    portable_processes:process_that_ends_at_any_question portable_processes:process_that_hides_at_any_question
    portable_processes:zombie portable_processes:strange_error portable:both_ways_agree portable:cpu
R17 a mount that hangs
    host:hung_mount adversity:hung_mount
R18 counters
    host:cpu_time_never_goes_back processes:cpu_time_of_the_dead_stays processes:bytes_of_the_dead_stay
    counters_are_counters
R19 the exposition is valid, whatever is in it
    catalogue:promtool gpu_cards:promtool_finds_nothing_wrong every_configuration hostile:any_reading
    hostile:any_kernel_file hostile:any_answer_of_a_driver hostile:any_word_of_nvml hostile:any_figures_of_koboldcpp
    model_servers:any_models_are_a_valid_exposition
R20 nothing is done before it is asked for, and no driver is needed
    program:import_touches_no_driver program:start_asks_no_collector adversity:no_driver amd:not_installed
R21 whole cards
    gpu_cards:card nvml:what_is_recorded_plays_the_same
R22 forks
    gpu_troubles:fork_after_start
R23 a demonstration without hardware
    gpu_cards:demonstration nvml:demo_lives gpu_troubles:demonstration_has_all
"""


def parsed():
    """By requirement, its tests as file and function."""
    found = {}
    for line in REQUIREMENTS.splitlines():
        if not line.startswith(" "):
            tests = found[line.split()[0]] = []
        else:
            pairs = (test.rpartition(":") for test in line.split())
            tests += [(f"test_{file or 'requirements'}", f"test_{name}") for file, _, name in pairs]
    return found


def test_every_requirement_has_its_tests():
    """The tests that a requirement names are there."""
    functions = {
        (file.stem, node.name)
        for file in Path(__file__).parent.glob("test_*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }

    assert [f"R{number}" for number in range(1, 24)] == list(parsed())
    assert all(parsed().values())
    assert [] == [test for tests in parsed().values() for test in tests if test not in functions]


def site_of(*declarations, timeout=2.0, **more):
    runner = Runner(declarations, settings(**more), timeout=timeout)
    return Site(Scrape(runner), runner.collectors)


# --- R1 to R3: the frame ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["raises", "gives None", "value NaN", "label int", "ends the thread"])
@pytest.mark.parametrize("collector", COLLECTORS, ids=lambda collector: collector.name)
def test_any_collector_in_trouble(collector, trouble):
    """Whichever collector it is that fails, it alone is without series."""
    bad = dataclasses.replace(collector, open=lambda _: Reader(TROUBLE[trouble]))
    text = encode(site_of(good, bad).registry).decode()

    assert {"good": True, collector.name: False} == successes(text)
    assert f'llmvitals_scrape_collector_timeout{{collector="{collector.name}"}} 0.0' in text
    assert 'test_good_bytes{name="a"} 1.0' in text
    assert not [family.name for family in collector.families if f"\n{family.name}" in text]


def test_collector_that_cannot_be_opened():
    """One that cannot even be opened is a failed collection like any other, and is opened when it can be."""
    trouble = [OSError("no such thing yet")]

    def opening(_):
        if trouble:
            raise trouble[0]
        return Reader(list)

    site = site_of(good, dataclasses.replace(declare("late", list), open=opening))

    assert {"good": True, "late": False} == successes(encode(site.registry).decode())
    trouble.clear()
    assert {"good": True, "late": True} == successes(encode(site.registry).decode())


@pytest.fixture(name="gate")
def _gate():
    gate = threading.Event()
    yield gate
    gate.set()


def test_five_stuck_scrapes(gate):
    """Five scrapes while a collector hangs hold one thread more, all in all, and each says that it was late."""
    site = site_of(good, declare("stuck", lambda: gate.wait() and []), timeout=0.1)
    before = threading.active_count()
    with serve(site.registry, port=0, select=site.select) as server:
        address = server.url.removesuffix("/metrics")
        for _ in range(5):
            text = get(f"{address}/metrics")[2]
            until(lambda: threading.active_count() <= before + 2)  # The server's, and the one that hangs.

            assert {"good": True, "stuck": False} == successes(text)
            assert 'llmvitals_scrape_collector_timeout{collector="stuck"} 1.0' in text
    gate.set()
    until(lambda: not collector_threads())


def test_a_hundred_scrapes_at_once(gate):
    """Of a hundred at once, as many as are let in share one collection; the others are told to come again."""
    calls = []
    site = site_of(declare("slow", lambda: calls.append(1) or (gate.wait() and [])), timeout=30.0)
    answered, refused = [], []

    def ask(url):
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                answered.append(response.status)
        except urllib.error.HTTPError as error:
            refused.append(error.code)

    with serve(site.registry, port=0, select=site.select) as server:
        allowed = server.limits.connections
        threads = [threading.Thread(target=ask, args=(server.url,)) for _ in range(100)]
        for thread in threads[:allowed]:
            thread.start()
        until(lambda: calls)
        # All but the one that collects wait for its result.
        until(lambda: len(site.scrape._flight[1]._condition._waiters) == allowed - 1)
        for thread in threads[allowed:]:
            thread.start()
            thread.join(30)
        gate.set()
        for thread in threads[:allowed]:
            thread.join(30)

    assert [200] * allowed == answered
    assert [503] * (100 - allowed) == refused
    assert 1 == len(calls)


# --- R18 and R19: the exposition --------------------------------------------------------------------------------------


def test_counters_are_counters():
    """What is called a total is typed a counter and the other way round, and none has a time of creation."""
    text = encode(site_of(*COLLECTORS, more={NVIDIA: "off"}).registry).decode()

    assert [] == [f.name for f in FAMILIES if (f.type == "counter") != f.name.endswith("_total")]
    assert "_created" not in text
    assert b"_created" not in encode_openmetrics(site_of(*COLLECTORS, more={NVIDIA: "off"}).registry)


@pytest.fixture(name="everything", scope="module")
def _everything():
    """All that one machine can be told to serve, GPUs played and servers away."""
    with serving(
        *("--nvidia", "demo", "--nvidia-also", "dcgm,processes", "--watch", "me=python", "--collector-timeout", "20"),
        *("--koboldcpp", "http://127.0.0.1:1", "--ollama", "http://127.0.0.1:1", "--lmstudio", "http://127.0.0.1:1"),
    ) as (_, address):
        until(lambda: successes(get(f"{address}/metrics?collect[]=nvidia")[2]).get("nvidia"), seconds=20)
        yield address


#: Those that find something to tell on any Linux; the others are played to promtool by test_catalogue.
SERVED = [collector.name for collector in COLLECTORS if collector.name not in ("amd", "apple")]


@pytest.mark.stack
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("query", ["", *(f"?collect[]={name}" for name in SERVED)], ids=["all", *SERVED])
def test_every_configuration(everything, query):
    """Each collector alone, and all together, are an exposition in which promtool minds only what is excused."""
    text = get(f"{everything}/metrics{query}")[2]
    result = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30, check=False
    )

    assert "llmvitals_scrape_collector_success" in text
    assert [] == [line for line in (result.stdout + result.stderr).splitlines() if not excused(line)]
