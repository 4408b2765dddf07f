"""The catalogues the other way round: what is emitted is on a dashboard or in a rule, or there is a reason."""

import re
from fnmatch import fnmatchcase

import pytest
from tests.grafana.queries import ROOT

from llmvitals.catalogue import FAMILIES as LIBRARY
from llmvitals_exporter.catalogue import FAMILIES as EXPORTER
from llmvitals_remediation.catalogue import FAMILIES as REMEDIATION
from llmvitals_stack.catalogue import FAMILIES as VIEWER

_NAMES_OF_OTHERS = "under the name that other exporters' dashboards and rules know; ours read what matters most"
_BESIDE = "to look at beside what is drawn, when that looks odd"

NOT_DRAWN = {
    "node_*": _NAMES_OF_OTHERS,
    "DCGM_*": _NAMES_OF_OTHERS,
    "process_virtual_memory_bytes": _NAMES_OF_OTHERS,
    "python_info": _NAMES_OF_OTHERS,
    "http_client_open_connections": _NAMES_OF_OTHERS,
    "http_client_active_requests": _NAMES_OF_OTHERS,
    "http_server_active_requests": _NAMES_OF_OTHERS,
    "llmvitals_host_*": "what Linux has in node_memory_*, for macOS and Windows, where alerts of the host do not run",
    "llmvitals_agent_info": "who an agent is: for remediation's console",
    "llmvitals_agent_commands_total": "the console tells of each command, with its reason",
    "llmvitals_tunable_*": "the console tells which change is held, and for how long",
    "llmvitals_profile_active": "the console tells which change is held, and for how long",
    "llmvitals_module_in_flight": _BESIDE,
    "llmvitals_startup_progress_ratio": "for a start-up page; it is 1 before a dashboard is opened",
    "llmvitals_limit_*": "the headroom, which is drawn, is made of them",
    "llmvitals_shutdown_*": "lives for the seconds of an ending; the log tells the rest",
    "llmvitals_torch_memory_peak_bytes": _BESIDE,
    "llmvitals_process_group_*": _BESIDE,
    "llmvitals_cgroup_*": _BESIDE,
    "llmvitals_gpu_*": _BESIDE,
    "llmvitals_koboldcpp_*": "of one server's last generation, which a graph of averages would misrepresent",
    "llmvitals_ollama_*": _BESIDE,
    "llmvitals_lmstudio_*": _BESIDE,
    "llmvitals_scrape_collector_timeout": "told by the collector's failure, which is drawn and alerted on",
}
FAMILIES = {family.name for family in (*LIBRARY, *EXPORTER, *REMEDIATION, *VIEWER)}


def unread(families: set[str]) -> set[str]:
    """Those that no rule, panel, variable or annotation names."""
    files = [*(ROOT / "prometheus" / "rules").rglob("*.yml"), *(ROOT / "grafana" / "dashboards").glob("*.json")]
    words = {word for path in files for word in re.findall(r"[\w:]+", path.read_text(encoding="utf-8"))}
    return families - words - {re.sub(r"_(bucket|sum|count)$", "", word) for word in words}


def test_what_is_emitted_is_read_or_there_is_a_reason():
    """A new family is drawn or alerted on, or somebody says why not."""
    assert [] == [name for name in sorted(unread(FAMILIES)) if not any(fnmatchcase(name, p) for p in NOT_DRAWN)]


@pytest.mark.parametrize("pattern", NOT_DRAWN)
def test_no_reason_outlives_its_family(pattern):
    """What is read now, or gone, needs none."""
    assert [name for name in unread(FAMILIES) if fnmatchcase(name, pattern)]


def test_a_family_that_nobody_reads_is_told():
    """And one that is read by its buckets alone is read."""
    found = unread({"llmvitals_nobody_total", "llmvitals_operation_duration_seconds"})

    assert {"llmvitals_nobody_total"} == found
