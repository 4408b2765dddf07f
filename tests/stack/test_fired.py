"""The program that turns the demo's faults on, as far as it can be tested without its forty minutes."""

import http.server
import json
import threading

import pytest
import yaml
from tests.stack import checkout, fire_alerts
from tests.stack.faults import FAULTS
from tests.stack.fire_alerts import Seen, report

from llmvitals_stack.settings import PORTS

ALERTS = {
    rule["alert"]
    for path in (checkout.ROOT / "prometheus" / "rules").glob("*/*.yml")
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


def alert(name, state, severity="warning", job="app"):
    return {"state": state, "labels": {"alertname": name, "severity": severity, "job": job}}


@pytest.fixture(name="prometheus")
def _prometheus():
    """Answers with the alerts that the test puts into `told`."""
    told = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"data": {"alerts": told}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", told
        server.shutdown()
        thread.join()


def test_faults_are_about_alerts_that_exist():
    """A renamed alert takes its fault along."""
    assert set() == {name for fault in FAULTS for name in fault.alerts} - ALERTS


def test_only_what_begins_to_fire_is_told(prometheus):
    """Neither what is pending, nor what fires on, nor the same of another service twice."""
    url, told = prometheus
    seen = Seen()

    told[:] = [alert("A", "pending"), alert("B", "firing")]
    first = list(seen.look(url, 1))
    told[:] = [alert("A", "firing"), alert("B", "firing"), alert("B", "firing", job="other")]
    second = sorted(seen.look(url, 2))

    assert [("B", "warning")] == first
    assert [("A", "warning"), ("B", "warning")] == second
    assert (1, 2, None) == (seen.after("B", 0, 9), seen.after("B", 2, 9), seen.after("A", 0, 2))


def test_what_fired_before_its_fault_or_long_after_it_is_not_counted():
    """The report tells of each alert how long after the fault it came, and names what did not come."""
    fault = next(fault for fault in FAULTS if fault.alerts == ("LLMModuleOverdue",))
    late = fault.start + fault.seconds + fire_alerts.GRACE_SECONDS

    def told(*moments):
        return report(Seen({("LLMModuleOverdue", "warning"): list(moments)}))

    assert {"fault": fault.says, "seconds": 90, "severities": ["warning"]} == told(fault.start + 90)["fired"][
        "LLMModuleOverdue"
    ]
    assert "LLMModuleOverdue" in told(fault.start - 1, late)["not_fired"]


def test_a_checkout_of_its_own_has_ports_of_its_own(tmp_path):
    """And the settings that were asked for."""
    settings = checkout.make(tmp_path, {"LLMVITALS_EXPORTER_NVIDIA": "demo"})

    assert ("native", "demo") == (settings["LLMVITALS_MODE"], settings["LLMVITALS_EXPORTER_NVIDIA"])
    assert len(PORTS) == len({settings[key] for key in PORTS})
    assert tmp_path == settings.root
