"""The web configuration file: what it may say, and every mistake in it."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llmvitals_exporter._options import UsageError, parse
from llmvitals_exporter._web_config import TlsConfig, WebConfig, WebConfigError, load

HASH = "$2b$04$ZKxVuzoU2z5WM3eWKLjQI.dYxbqFzHYJ4uFzBqJ6CAfN8LHRPWgGW"


@pytest.fixture(name="write")
def _write(tmp_path):
    def write(text):
        file = tmp_path / "web.yml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def mistakes(file):
    with pytest.raises(WebConfigError) as error:
        load(file)
    return [problem.removeprefix(f"{file}: ") for problem in error.value.problems]


def test_everything(write, tmp_path):
    """All that the format has and we support is read; paths are relative to the file."""
    file = write(
        "tls_server_config:\n"
        "  cert_file: server.crt\n  key_file: /etc/server.key\n  client_ca_file: ca.crt\n"
        "  client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [prometheus]\n"
        "  min_version: TLS13\n  max_version: TLS13\n"
        "http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n"
        f"basic_auth_users:\n  prometheus: {HASH}\n"
    )
    config = load(file)

    assert config == WebConfig(
        TlsConfig(
            tmp_path / "server.crt",
            Path("/etc/server.key"),
            tmp_path / "ca.crt",
            "RequireAndVerifyClientCert",
            ("prometheus",),
            "TLS13",
            "TLS13",
        ),
        {"X-Frame-Options": "deny"},
        {"prometheus": HASH},
    )
    assert HASH not in repr(config)


def test_nothing(write):
    """An empty file asks for nothing."""
    assert WebConfig() == load(write(""))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a\n", "the file is not a mapping"),
        ("tls: {}\n", "tls is not supported"),
        ("tls_server_config: {cert_file: a}\n", "tls_server_config.key_file is missing"),
        ("tls_server_config: {cert_file: [a], key_file: b}\n", "tls_server_config.cert_file is not a text of one line"),
        (
            "tls_server_config: {cert_file: a, key_file: b, cipher_suites: [X]}\n",
            "tls_server_config.cipher_suites is not supported",
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAndVerifyClientCert}\n",
            "tls_server_config.client_ca_file is needed by client_auth_type RequireAndVerifyClientCert",
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}\n",
            "tls_server_config.client_auth_type is needed: without it no client's certificate is asked for",
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAnyClientCert}\n",
            "tls_server_config.client_auth_type RequireAnyClientCert would trust any certificate; verify it",
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b, min_version: TLS10}\n",
            "tls_server_config.min_version is none of TLS12, TLS13",
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b, min_version: TLS13, max_version: TLS12}\n",
            "tls_server_config.min_version is above max_version",
        ),
        (
            'http_server_config: {headers: {X-Frame-Options: "a\\r\\nb: c"}}\n',
            "http_server_config.headers.X-Frame-Options is not a text of one line",
        ),
        ("http_server_config: {headers: {Set-Cookie: a}}\n", "http_server_config.headers.Set-Cookie is not supported"),
        ("basic_auth_users: []\n", "basic_auth_users is not a mapping of names to bcrypt hashes"),
        ("basic_auth_users: {}\n", "basic_auth_users is not a mapping of names to bcrypt hashes"),
        (f"basic_auth_users: {{'a:b': {HASH}}}\n", "basic_auth_users has a name that cannot be one: 'a:b'"),
        ("basic_auth_users: {a: secret}\n", "basic_auth_users.a has no bcrypt hash; make one with htpasswd -nBC 10"),
        (f"basic_auth_users:\n\ta: {HASH}\n", "is not YAML on line 2"),
        ("[" * 20_000, "is not YAML on line 2"),
        (b"\xff", "is not UTF-8: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b" " * (1 << 20) + b" ", "has more than 1048576 bytes"),
    ],
)
def test_mistake(write, text, told):
    """Each mistake is told with its place, and no secret is repeated."""
    found = mistakes(write(text))

    assert [told] == found
    assert not [problem for problem in found if "secret" in problem or HASH in problem]


def test_all_at_once(write):
    """All mistakes of the file are told together, and together with those of the flags."""
    file = write("tls_server_config: {min_version: 1}\nbasic_auth_users: {a: b}\nrate_limit: 1\n")
    with pytest.raises(UsageError) as error:
        parse(["--web-config", str(file), "--port", "x"], {})

    assert 6 == len(error.value.problems)


KEYS = st.sampled_from(["tls_server_config", "cert_file", "key_file", "basic_auth_users", "headers", "a"]) | st.text()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_document(tmp_path_factory, document):
    """Whatever a YAML file holds, it is a configuration or a list of mistakes."""
    file = tmp_path_factory.getbasetemp() / "any.yml"
    file.write_text(yaml.safe_dump(document))
    try:
        config = load(file)
    except WebConfigError as error:
        config = error

    assert isinstance(config, WebConfig | WebConfigError)


def test_files_that_cannot_be_read_are_told_with_the_other_mistakes(write, tmp_path):
    """Files that are named and not there are no later surprise."""
    file = write("tls_server_config: {cert_file: server.crt, key_file: server.key}")
    (tmp_path / "server.key").write_text("key")
    with pytest.raises(UsageError) as error:
        parse(["--web-config", str(file), "--port", "x"], {})

    assert ["--port", str(tmp_path / "server.crt")] == [problem.partition(":")[0] for problem in error.value.problems]
