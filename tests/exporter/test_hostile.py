"""Whatever the kernel, a driver or a server says, what is served is an exposition, and no other collector is lost."""

import json
import math
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families
from tests.exporter.reading import LINUX, plant
from tests.exporter.reading import settings as machine
from tests.exporter.test_cgroup import V2_MOUNT, v2
from tests.exporter.test_isolation import declare, good
from tests.exporter.test_nvidia import UUID, ok
from tests.exporter.test_nvml import CARDS

from llmvitals.exposition._respond import Site as Server
from llmvitals_exporter._cards import Cards
from llmvitals_exporter._dcgm import dcgm_view
from llmvitals_exporter._declaration import Declaration
from llmvitals_exporter._family import Family
from llmvitals_exporter._runner import Runner
from llmvitals_exporter._scrape import Scrape
from llmvitals_exporter._servers import Server as Asked
from llmvitals_exporter._site import Site
from llmvitals_exporter.collectors import COLLECTORS, koboldcpp, nvidia, processes
from llmvitals_exporter.nvml.__main__ import Driver
from llmvitals_exporter.nvml._replay import Replay

FORMATS = {
    "text/plain": text_families,
    "application/openmetrics-text;version=1.0.0": openmetrics_families,
}


def exposed(declarations, settings_=None):
    """The samples of a scrape in both formats, which must be valid, whole and equal but for what time changes."""
    runner = Runner((good, *declarations), settings_ or machine(), timeout=20.0)
    site = Site(Scrape(runner), runner.collectors)
    server = Server(site.registry, select=site.select)
    found = [read(server, accept) for accept in FORMATS]
    assert found[0].keys() == found[1].keys()
    assert all(map(math.isfinite, found[0].values()))
    assert 1.0 == found[0]["test_good_bytes", ("name", "a")]
    for declaration in declarations:
        success = found[0].get(("llmvitals_scrape_collector_success", ("collector", declaration.name)))
        assert success in (None, 0.0, 1.0)
    return found[0]


def read(server, accept):
    response = server.respond("GET", "/metrics", {"accept": accept})
    assert "200 OK" == response.status
    families = list(FORMATS[accept](response.body.decode()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, *sorted(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples), "a series comes twice"
    return found


# --- Readings ---------------------------------------------------------------------------------------------------------

#: Texts with what has a meaning in a line of an exposition, in a line of the kernel's, or in no encoding.
meaning = st.text(st.sampled_from('"\\{}=,# \n\r\t\0\x1f\x7f\x85\u2028\ufeffé中a1_:-\ud800\U0001f600'), max_size=12)
texts = st.text(max_size=20) | meaning
numbers = st.floats() | st.integers() | st.integers(min_value=2**62, max_value=10**400)


@settings(deadline=None)
@given(st.lists(st.tuples(texts, texts, st.floats())), texts)
def test_any_reading(rows, help_):
    """Any text is a label's value or a help, any float a number or the end of its own collector."""
    family = Family("test_any", "gauge", help_, ("one", "other"))
    rows = [((one, other), value) for one, other, value in rows]
    readings = [(family, *row) for row in rows]
    found = exposed([declare("any", lambda: readings, families=(family,))])

    told = {key[1:] for key in found if key[0] == "test_any"}
    if found["llmvitals_scrape_collector_success", ("collector", "any")]:
        assert len(rows) == len(told)
    else:
        assert not told


# --- The kernel's files -----------------------------------------------------------------------------------------------

PROCESS = {
    "stat": "{pid} (work er) S 1 1 1 0 -1 4 100 0 0 0 700 300 0 0 20 0 3 0 5000 1000000 250 9\n",
    "cmdline": "python\0-m\0worker\0",
    "io": "rchar: 1\nwchar: 1\nsyscr: 1\nsyscw: 1\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 0\n",
    "fd/0": "",
}


@pytest.fixture(name="place", scope="module")
def _place(tmp_path_factory):
    """A small machine in a control group with two processes, one of them ourselves."""
    root = tmp_path_factory.mktemp("machine")
    shutil.copytree(LINUX, root, dirs_exist_ok=True, symlinks=True)
    shutil.rmtree(root / "proc" / "self", ignore_errors=True)  # An empty folder, which git does not keep.
    (root / "proc" / "self").symlink_to("1")
    plant(root, {path.replace("/self/", "/1/"): text for path, text in V2_MOUNT.items()})
    plant(root, {"proc/1/cgroup": "0::/\n"})
    plant(root, v2(memory_current="1\n", memory_max="2\n", memory_events="oom_kill 3\n", cpu_max="1 2\n"))
    plant(root, v2(cpu_stat="usage_usec 1\nthrottled_usec 1\n", memory_stat="inactive_file 1\n"))
    for pid in (41, 42):
        plant(root, {f"proc/{pid}/{name}": text.replace("{pid}", str(pid)) for name, text in PROCESS.items()})
    return root


#: What may stand where a word, a number or a path is expected.
WORDS = [b"", b"-1", b"nan", b"inf", b"1e400", b"9" * 400, b"0x10", b"1_0", "٣".encode(), b"\0", b'"', b"\\", b"\\040"]
WORDS += [b"\r", b'a"b\\c}', b"\xff\xfe", "\u2028\x85".encode(), b"max", b"self", b"/", b":", b" ", b"\n", b"cpu9"]


@st.composite
def damages(draw):
    """How a file is damaged: a function of its bytes."""
    kind = draw(st.sampled_from(["word", "word", "word", "line", "twice", "cut", "anything"]))
    if kind == "anything":
        content = draw(st.binary(max_size=200))
        return lambda _: content
    word, share = draw(st.sampled_from(WORDS)), draw(st.floats(0, 1, exclude_max=True))

    def damage(content):
        if kind == "cut":
            return content[: int(share * len(content))]
        if kind == "word":
            parts = content.split(b" ")
            parts[int(share * len(parts))] = word
            return b" ".join(parts)
        lines = content.splitlines(keepends=True) or [b""]
        at = int(share * len(lines))
        return b"".join([*lines[:at], lines[at] if kind == "twice" else word, *lines[at:]])

    return damage


LOCAL = {
    "cpu",
    "memory",
    "disk",
    "filesystem",
    "network",
    "load",
    "pressure",
    "vmstat",
    "system",
    "processes",
    "cgroup",
}


@settings(max_examples=100, deadline=None)
@given(st.data(), damages())
def test_any_kernel_file(place, data, damage):
    """A file of the kernel's with garbage in it costs at most the collectors that read it."""
    files = sorted(path for path in place.rglob("*") if path.is_file() and not path.is_symlink())
    file = data.draw(st.sampled_from([str(path.relative_to(place)) for path in files]))
    whole = (place / file).read_bytes()
    watch = {processes.WATCH: processes.WATCH.parse(["work=python"])}
    local = [collector for collector in COLLECTORS if collector.name in LOCAL]
    (place / file).write_bytes(damage(whole))
    try:
        found = exposed(local, machine(place, watch))
    finally:
        (place / file).write_bytes(whole)

    success = [value for name, *value in found.items() if name[0] == "llmvitals_scrape_collector_success"]
    assert len(success) >= len(LOCAL) - 1
    assert len([value for (value,) in success if value == 0.0]) <= 4


# --- Drivers ----------------------------------------------------------------------------------------------------------


class Said:
    """Plays a `Child` that answered this."""

    def __init__(self, answer):
        self._answer = json.loads(json.dumps(answer))

    def begin(self):
        pass

    def ask(self, wait):
        return self._answer

    replace = close = begin


def cards(answer):
    source = Cards(Said(answer), nvidia.VENDOR, required=True, view=dcgm_view)
    return Declaration("nvidia", "", nvidia.COLLECTOR.families, lambda _: source)


json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
named = st.sampled_from(
    ["power_watts", "temperature_celsius", "process_memory_bytes", "mig_info", "xid", "throttle_active"]
)
readings = st.lists(
    st.tuples(named | texts, st.lists(texts, max_size=4), numbers | json_values) | json_values, max_size=4
)
infos = st.dictionaries(st.sampled_from(["index", "name", "pci_bus_id", "mig_mode"]), json_values, max_size=4)
devices = st.fixed_dictionaries({"uuid": st.just(UUID) | texts, "info": infos | json_values, "readings": readings})
xids = st.lists(st.tuples(texts, numbers, numbers, numbers) | json_values, max_size=3)


@settings(max_examples=100, deadline=None)
@given(st.lists(devices | json_values, max_size=3), json_values, xids | json_values)
def test_any_answer_of_a_driver(told, driver, told_xids):
    """Whatever the child that asks a driver answers, it is believed, left out, or a failed collection."""
    exposed([cards({**ok(), "devices": told, "driver": driver, "xids": told_xids})])


CAPTURE = json.loads((CARDS / "h100.json").read_text())["calls"]
SAID, MEASURED = ([call for call, answer in CAPTURE.items() if type(answer) is kind] for kind in (str, int))
#: A text where pynvml gives one, and any number that fits where it gives a number.
words = st.dictionaries(st.sampled_from(SAID), texts) | st.dictionaries(
    st.sampled_from(MEASURED), st.integers(-(2**63), 2**64 - 1) | st.sampled_from([2**31 - 16, 2**63 - 16, 2**64 - 1])
)


@settings(max_examples=60, deadline=None)
@given(words)
def test_any_word_of_nvml(changes):
    """Whatever NVML calls a card, or says it measures, the way through child and parent ends in an exposition."""
    answer = Driver(Replay({"calls": CAPTURE | changes}), frozenset(["processes"])).answer()

    exposed([cards(answer)])


# --- Servers ----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*koboldcpp._FIELDS, *koboldcpp._MILLISECONDS_A_TOKEN]), json_values))
def test_any_figures_of_koboldcpp(figures):
    """Whatever KoboldCpp says of its last request, it is up, and what is no figure is absent."""
    server = Asked(False, "h", 1, "")
    source = koboldcpp.KoboldCpp([server], fetch=lambda _: json.loads(json.dumps(figures)))
    found = exposed([declare("koboldcpp", source.read, families=koboldcpp.COLLECTOR.families)])

    assert 1.0 == found["llmvitals_koboldcpp_up", ("server", "h:1")]
