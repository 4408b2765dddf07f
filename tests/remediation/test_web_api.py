"""The admin API over real sockets, a real store and an engine that does not run."""

import pytest
from tests.remediation.web_service import ADMIN, AGENT, INGEST, build, engine_on, listening, open_incident, open_store
from tests.remediation.web_service import services as make_services
from tests.servers import request


@pytest.fixture(name="service", scope="module")
def _service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    store = open_store(folder)
    yield make_services(folder, engine=engine_on(store), store=store)
    store.close()


@pytest.fixture(name="call", scope="module")
def _call(service):
    """Ask the API: `call(path)` reads, `call(path, {…})` posts."""
    with listening(build(service)) as url:

        def call(path, data=None, *, token=ADMIN):
            return request(f"{url}/api/v1/{path}", data=data, token=token)

        yield call


PATHS = [
    ("incidents", None),
    ("incidents/x", None),
    ("handlers", None),
    ("status", None),
    ("audit", None),
    ("controls/kill-switch", {"engaged": True, "why": "test"}),
    ("handlers/evict_users/mode", {"mode": "off", "why": "test"}),
    ("incidents/x/approve", {"why": "test"}),
]


@pytest.mark.parametrize(("path", "data"), PATHS)
@pytest.mark.parametrize("token", [None, INGEST, AGENT, "wrong-token-0123456789"])
def test_only_the_admin_token_opens_the_admin_api(call, path, data, token):
    """Not Alertmanager's, and not an application's."""
    assert 401 == call(path, data, token=token).status


def test_an_incident_is_told_with_its_alerts_attempts_and_time_line(call, service):
    """All that a script needs to follow a loop, times in ISO 8601."""
    incident_id = open_incident(service.store, instance="a:1")

    listed = call("incidents?state=active").json()["incidents"]
    told = call(f"incidents/{incident_id}").json()

    assert incident_id in [incident["id"] for incident in listed]
    assert ("evict_users", "open", None) == (told["handler"], told["state"], told["outcome"])
    assert told["opened_at"].endswith("Z")
    assert ["LLMUserProfilesHigh"] == [alert["alertname"] for alert in told["alerts"]]
    assert ([], True) == (told["attempts"], len(told["timeline"]) > 0)


def test_the_list_is_filtered_by_state_and_handler_and_is_bounded(call, service):
    """`limit` is a promise about the answer's size."""
    for number in range(3):
        open_incident(service.store, instance=f"filter:{number}")

    assert 2 == len(call("incidents?limit=2").json()["incidents"])
    assert [] == call("incidents?handler=warm_cache").json()["incidents"]
    assert [] == call("incidents?state=executing").json()["incidents"]
    assert [400] * 5 == [call(f"incidents?limit={bad}").status for bad in ("0", "-1", "1001", "x", "9" * 5000)]


def test_the_kill_switch_goes_on_and_off_with_a_reason_in_the_audit_log(call):
    """Who, when, why: before it takes effect."""
    on = call("controls/kill-switch", {"engaged": True, "why": "drill", "who": "ada"})
    engaged = call("status").json()["kill_switch"]
    off = call("controls/kill-switch", {"engaged": False, "why": "drill is over"})
    after = call("status").json()["kill_switch"]
    rows = [row for row in call("audit").json()["audit"] if row["event"] == "control"]

    assert (200, 200) == (on.status, off.status)
    assert (True, False) == (engaged["engaged"], after["engaged"])
    assert ("ada (API)", "drill") == (engaged["who"], engaged["why"])
    assert ["admin (API)", "ada (API)"] == [row["who"] for row in rows[:2]]


def test_a_handlers_mode_is_set_and_given_back_to_the_policy(call):
    """`policy` takes the override back."""

    def mode():
        return {row["name"]: row["mode"] for row in call("handlers").json()["handlers"]}["evict_users"]

    before = mode()
    call("handlers/evict_users/mode", {"mode": "off", "why": "noisy"})
    paused = mode()
    call("handlers/evict_users/mode", {"mode": "policy", "why": "fixed"})

    assert ("auto", "off", "auto") == (before, paused, mode())


def test_approve_and_veto_happen_once_and_say_so(call, service):
    """A second decision, or one about an incident that does not wait, is a conflict."""
    approved = open_incident(service.store, instance="b:1", waiting=True)
    vetoed = open_incident(service.store, instance="b:2", waiting=True)
    idle = open_incident(service.store, instance="b:3")

    statuses = [
        call(f"incidents/{approved}/approve", {"why": "go"}).status,
        call(f"incidents/{approved}/approve", {"why": "go again"}).status,
        call(f"incidents/{vetoed}/veto", {"why": "not today"}).status,
        call(f"incidents/{vetoed}/approve", {"why": "after all"}).status,
        call(f"incidents/{idle}/approve", {"why": "go"}).status,
        call("incidents/nobody/veto", {"why": "x"}).status,
        call(f"incidents/{idle}/delete", {"why": "x"}).status,
    ]

    assert [200, 409, 200, 409, 409, 404, 404] == statuses
    assert "vetoed" == call(f"incidents/{vetoed}").json()["outcome"]


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("controls/kill-switch", {"engaged": "yes", "why": "x"}),
        ("controls/kill-switch", {"engaged": True}),
        ("controls/kill-switch", {"engaged": True, "why": "  \n "}),
        ("controls/kill-switch", {"engaged": True, "why": "x" * 501}),
        ("controls/kill-switch", {"engaged": True, "why": "a\x00b"}),
        ("controls/kill-switch", {"engaged": True, "why": "half \ud800 a pair"}),
        ("handlers/evict_users/mode", {"mode": "yolo", "why": "x"}),
        ("handlers/evict_users/mode", {"mode": ["auto"], "why": "x"}),
        ("controls/kill-switch", []),
    ],
)
def test_a_change_that_is_not_clear_is_refused_and_changes_nothing(call, path, data):
    """Each names the key at fault."""
    before = call("status").json()["kill_switch"]["engaged"]
    answer = call(path, data)

    assert 400 == answer.status
    assert answer.json()["error"]
    assert before == call("status").json()["kill_switch"]["engaged"]


def test_an_unknown_handler_is_404(call):
    """A misspelt name must not look like success."""
    assert 404 == call("handlers/evict_user/mode", {"mode": "off", "why": "x"}).status


def test_ready_tells_what_is_amiss_and_stays_200_while_alerts_can_be_taken(tmp_path):
    """Whoever routes by readiness must not cut off the intake because Prometheus is away."""
    store = open_store(tmp_path)
    sources = {"prometheus": lambda: "Prometheus at http://127.0.0.1:1 gave no answer: connection refused"}
    with listening(build(make_services(tmp_path, engine=engine_on(store), store=store, sources=sources))) as url:
        ready = request(f"{url}/readyz")
        healthy = request(f"{url}/healthz")
        store.close()
        closed = request(f"{url}/readyz")

    assert (200, "degraded") == (ready.status, ready.json()["status"])
    assert "connection refused" in ready.json()["prometheus"]
    assert 200 == healthy.status
    assert (503, "unavailable") == (closed.status, closed.json()["status"])


def test_every_answer_carries_the_headers_that_keep_a_browser_in_bounds(call, service):
    """Errors too."""
    for answer in (call("status"), call("status", token=None), call("nothing")):
        headers = {name.lower(): value for name, value in answer.headers.items()}

        assert "default-src 'none'" in headers["content-security-policy"]
        assert ("nosniff", "no-store") == (headers["x-content-type-options"], headers["cache-control"])
        assert "server" not in headers or "uvicorn" in headers["server"]
