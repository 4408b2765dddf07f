"""The catalogue, the output and promtool agree."""

import dataclasses
import json
import shutil
import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.exporter import systems
from tests.exporter.reading import LINUX, plant, settings
from tests.exporter.test_apple import M2_MAX, printing
from tests.exporter.test_cgroup import STALLS, V2_MOUNT, v2
from tests.exporter.test_koboldcpp import PERF
from tests.exporter.test_model_servers import HOLDS, STUDIO
from tests.exporter.test_nvidia import FAKE, UUID, gpu, ok

from llmvitals.exposition import encode
from llmvitals_exporter import _dcgm, _gpu, collectors
from llmvitals_exporter._cards import Cards
from llmvitals_exporter._child import Child
from llmvitals_exporter._places import PROCFS
from llmvitals_exporter._runner import Runner
from llmvitals_exporter._scrape import Scrape
from llmvitals_exporter._site import Site
from llmvitals_exporter.catalogue import FAMILIES
from llmvitals_exporter.collectors import COLLECTORS, amd, nvidia
from llmvitals_exporter.collectors.koboldcpp import KOBOLDCPP, KoboldCpp
from llmvitals_exporter.collectors.lmstudio import LMSTUDIO, LMStudio
from llmvitals_exporter.collectors.ollama import OLLAMA, Ollama
from llmvitals_exporter.collectors.processes import WATCH

#: Everything that the fake card says: each reading of the table once, and all that dcgm-exporter has a name for.
CARD = gpu(
    [(name, ["x"] * (len(family.labels) - 1), 1.0) for name, (family, _) in _gpu._BY_NAME.items()]
    + [(name, list(labels), 1.0) for name, labels, _, _ in _dcgm._SAME if labels]
)


@pytest.fixture(name="text", scope="module")
def _text(tmp_path_factory):
    """What the exporter serves on a machine that has everything."""
    root = tmp_path_factory.mktemp("machine")
    shutil.copytree(LINUX, root, dirs_exist_ok=True)
    plant(root, {**V2_MOUNT, "proc/self/cgroup": "0::/\n"})
    plant(root, v2(memory_current="1\n", memory_max="2\n", memory_events="oom_kill 3\n", cpu_max="1 2\n"))
    plant(root, v2(cpu_stat="usage_usec 1\nthrottled_usec 1\nnr_periods 1\nnr_throttled 1\n"))
    plant(root, v2(memory_stat="inactive_file 0\n"))
    plant(root, v2(**{f"{resource}_pressure": STALLS.format(2, 1) for resource in ("cpu", "io", "memory")}))
    script = root / "script"
    script.write_text(json.dumps([{**ok(CARD), "xids": [[UUID, 94, 1, 1.7e9]]}]) + "\n")
    child = Child([sys.executable, str(FAKE), str(script), str(root / "starts")])
    other = root / "other"
    other.write_text(json.dumps([ok(gpu(uuid="an AMD card"))]) + "\n")
    others = Child([sys.executable, str(FAKE), str(other), str(root / "other starts")])

    processes = settings(root, {PROCFS: "/proc", WATCH: WATCH.parse(["played=fake_nvml_child"])})
    #: Servers, GPUs and processes are played; the machine's files are read as they are.
    played = {
        "nvidia": lambda _: Cards(child, nvidia.VENDOR, wait=10.0, view=_dcgm.dcgm_view),
        "amd": lambda _: Cards(others, amd.VENDOR, wait=10.0),
        "apple": lambda _: printing(M2_MAX),
        "koboldcpp": lambda _: KoboldCpp(KOBOLDCPP.parse(["http://127.0.0.1:5001"]), fetch=lambda _: PERF),
        "ollama": lambda _: Ollama(OLLAMA.parse(["http://127.0.0.1:11434"]), fetch=lambda _: HOLDS),
        "lmstudio": lambda _: LMStudio(LMSTUDIO.parse(["http://127.0.0.1:1234"]), fetch=lambda _: STUDIO),
        "memory": systems.all_memory,
        "processes": lambda _: collectors.processes.COLLECTOR.open(processes),
    }

    runner = Runner(
        [dataclasses.replace(collector, open=played.get(collector.name, collector.open)) for collector in COLLECTORS],
        settings(root),
        timeout=20.0,
    )
    try:
        yield encode(Site(Scrape(runner), runner.collectors).registry).decode()
    finally:
        runner.close()


def test_every_collector_works(text):
    """On a machine that has everything, no collector fails or is absent."""
    lines = [line for line in text.splitlines() if line.startswith("llmvitals_scrape_collector_success{")]

    assert 17 == len(lines)
    assert all(line.endswith(" 1.0") for line in lines)


def test_everything_served_is_in_the_catalogue_and_back(text):
    """Names, types, help and labels are those of the catalogue, and every family of the catalogue is served."""
    served = {}
    for metric in text_string_to_metric_families(text):
        labels = {tuple(sorted(sample.labels)) for sample in metric.samples}
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        kind = "untyped" if metric.type == "unknown" else metric.type
        served[name] = (kind, metric.documentation, labels)
    declared = {family.name: (family.type, family.help, {tuple(sorted(family.labels))}) for family in FAMILIES}

    assert declared == served


def test_names_are_unique():
    """No two families share a name."""
    names = [family.name for family in FAMILIES]

    assert len(names) == len(set(names))


#: All that promtool may say of any configuration, by the start and the end of its line, each with its reason.
EXCUSED = {
    # dcgm-exporter's own names and units, which are what its view is asked for.
    ("DCGM_FI_", ""),
    # node_exporter's own names, after the kernel's.
    ("node_memory_", "metric names should be written in 'snake_case' not 'camelCase'"),
    # A number of cards, and not the count of a histogram.
    ("llmvitals_gpu_count ", 'have "_count" suffix'),
}


def excused(line):
    """Whether a line of promtool's is one of the few that are as they must be."""
    return any(line.startswith(start) and line.endswith(end) for start, end in EXCUSED)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool(text):
    """Promtool finds nothing wrong but what is excused above."""
    result = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30, check=False
    )
    complaints = [line for line in (result.stdout + result.stderr).splitlines() if not excused(line)]

    assert [] == complaints
