"""Runbooks on the console: read without a login, looked up and never a path, and with nothing in them that runs."""

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.remediation.web_service import ADMIN, build, engine_on, open_incident, open_store
from tests.remediation.web_service import services as make_services

from llmvitals_remediation.web.guards import CONTENT_SECURITY_POLICY
from llmvitals_remediation.web.runbooks import Runbooks

FOLDER = Path(__file__).parents[2] / "docs" / "runbooks"
DASHBOARDS = "http://127.0.0.1:3000"


@pytest.fixture(name="store", scope="module")
def _store(tmp_path_factory):
    store = open_store(tmp_path_factory.mktemp("runbooks"))
    yield store
    store.close()


def client_of(folder, store, runbooks):
    told = make_services(
        folder, engine=engine_on(store), store=store, runbooks=runbooks, dashboards_url=runbooks._dashboards_url
    )
    return TestClient(build(told), base_url="http://127.0.0.1", follow_redirects=False)


@pytest.fixture(name="client", scope="module")
def _client(tmp_path_factory, store):
    runbooks = Runbooks.read(FOLDER, dashboards_url=DASHBOARDS)
    with client_of(tmp_path_factory.mktemp("tokens"), store, runbooks) as client:
        yield client


def test_whoever_is_woken_reads_a_runbook_without_a_login(client):
    """The page has the runbook's parts; what may change something is still behind the login."""
    page = client.get("/runbooks/TargetDown")

    assert 200 == page.status_code
    assert ["TargetDown"] == re.findall(r"<h1>(.*)</h1>", page.text)
    assert ["Meaning", "Impact", "Look here", "Do this", "What remediation already did"] == re.findall(
        r"<h2>(.*)</h2>", page.text
    )
    assert CONTENT_SECURITY_POLICY == page.headers["content-security-policy"]
    assert "/stop" not in page.text
    assert "/login?next=/runbooks/TargetDown" in page.text
    for path in ("/", "/stop", "/audit", "/handlers"):
        assert (303, f"/login?next={path}") == (client.get(path).status_code, client.get(path).headers["location"])


@pytest.mark.parametrize("path", ["/runbooks", "/runbooks/"])
def test_all_runbooks_are_listed_with_what_they_mean(client, path):
    """Each that is in the folder, once, with the first sentence of its meaning."""
    page = client.get(path)

    names = re.findall(r'href="/runbooks/(\w+)"', page.text)
    assert sorted(file.stem for file in FOLDER.glob("*.md")) == sorted(names)
    assert "Prometheus has failed to scrape a service (labels job, instance) at least twice in a row." in page.text


def test_every_link_of_every_runbook_leads_somewhere(client):
    """To a runbook that is there, or to where the dashboards are; none is left as the repository has it."""
    written = {name: client.get(f"/runbooks/{name}").text for name in (file.stem for file in FOLDER.glob("*.md"))}

    links = {href for page in written.values() for href in re.findall(r'<a href="([^"]*)" rel', page)}
    assert {"/runbooks/LLMProviderDown"} < links
    assert [] == [
        href for href in links if href.removeprefix("/runbooks/") not in written and not href.startswith("http")
    ]


@pytest.mark.parametrize(
    "name",
    ["Nobody", "README", "TargetDown.md", "..%2fREADME", "..%2f..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "%00"],
)
def test_a_name_that_is_no_runbook_is_not_found(client, name):
    """It is looked up among those read at the start; no file is opened for it."""
    assert 404 == client.get(f"/runbooks/{name}").status_code


EVIL = """# Evil

## Meaning

<script>alert(1)</script> <img src=x onerror=alert(1)> ![i](https://evil.example/i.png) [s](javascript:alert(1))
[nobody](Nobody.md) [file](../../etc/passwd) [evil](Evil.md#do) [drawn](../../grafana/dashboards/llmvitals-gpu.json)

| a |
|:-:|
| b |
"""


def test_nothing_in_a_runbook_runs_or_is_loaded(tmp_path, store):
    """HTML stays text, pictures and styles are left out, and links lead to runbooks, dashboards or other sites."""
    (tmp_path / "Evil.md").write_text(EVIL, encoding="utf-8")
    (tmp_path / "README.md").write_text("# Not one\n", encoding="utf-8")
    with client_of(tmp_path, store, Runbooks.read(tmp_path, dashboards_url=DASHBOARDS)) as client:
        page = client.get("/runbooks/Evil").text
        listing = client.get("/runbooks/").text
    article = page.partition('<article class="prose">')[2]

    assert [] == re.findall(r"<script|<img|style=|javascript:[^)]*\"", article)
    assert ["https://evil.example/i.png", "/runbooks/Evil", f"{DASHBOARDS}/d/llmvitals-gpu"] == re.findall(
        r'href="([^"]*)"', article
    )
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in article
    assert ["Evil"] == re.findall(r'href="/runbooks/(\w+)"', listing)
    assert "<script" not in listing


def test_an_incident_leads_to_the_runbook_of_its_alert(client, store):
    """Who looks at an incident is one click from what to do; after signing in, one is where one was."""
    incident_id = open_incident(store, instance="a:1")
    form = client.get("/login?next=/runbooks/TargetDown").text
    csrf = re.search(r'name="csrf" value="([^"]+)"', form)[1]
    entered = client.post("/login", data={"csrf": csrf, "token": ADMIN, "next": "/runbooks/TargetDown"})
    page = client.get(f"/incidents/{incident_id}").text
    signed_in = client.get("/runbooks/TargetDown").text

    assert "/runbooks/TargetDown" == entered.headers["location"]
    assert 2 == page.count('href="/runbooks/LLMUserProfilesHigh"')
    assert f'href="{DASHBOARDS}/"' in page
    assert "Stop everything" in signed_in


def test_without_a_folder_the_page_says_how_to_give_one(tmp_path, store):
    """No runbooks is no error."""
    with client_of(tmp_path, store, Runbooks.read(None)) as client:
        assert "--runbooks" in client.get("/runbooks/").text
