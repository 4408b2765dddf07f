"""The LLM servers that `.env` names: those that Prometheus scrapes itself, and those that the exporter asks."""

import re
from collections.abc import Callable, Iterator, Mapping

ENGINES: Mapping[str, str] = {
    "LLMVITALS_VLLM_TARGETS": "vllm",
    "LLMVITALS_SGLANG_TARGETS": "sglang",
    "LLMVITALS_LLAMACPP_TARGETS": "llamacpp",
    "LLMVITALS_TGI_TARGETS": "tgi",
}
"""Each setting, and the job that its servers are scraped as."""

ASKED = ("LLMVITALS_EXPORTER_OLLAMA", "LLMVITALS_EXPORTER_LMSTUDIO", "LLMVITALS_EXPORTER_KOBOLDCPP")
"""Servers without metrics, by their URLs: the exporter reads these settings from its environment."""

_TARGET = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\]):(?P<port>[0-9]{1,5})")
_URL = re.compile(r"https?://(?P<host>[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(:(?P<port>[0-9]{1,5}))?(/[A-Za-z0-9._~/-]*)?")
_LOOPBACK = re.compile(r"^(https?://)?(127\.0\.0\.1|localhost|\[::1\])(?=[:/]|$)")


def listed(text: str) -> list[str]:
    """The parts of a comma-separated setting."""
    return [part.strip() for part in text.split(",") if part.strip()]


def target_groups(values: Mapping[str, str], *, from_container: bool = False) -> list[dict[str, object]]:
    """Prometheus' target groups of the servers that it scrapes, one an engine.

    Args:
        from_container: Whether Prometheus is in a container, whose loopback is not this machine's.
    """
    named = {job: listed(values[key]) for key, job in ENGINES.items()}
    return [
        {
            "targets": [for_containers(target) if from_container else target for target in targets],
            "labels": {"job": job},
        }
        for job, targets in named.items()
        if targets
    ]


def for_containers(address: str) -> str:
    """The same server's address as a container reaches it."""
    return _LOOPBACK.sub(r"\1host.docker.internal", address)


def mistakes(values: Mapping[str, str], at: Callable[[str], str]) -> Iterator[str]:
    """A sentence for each address that cannot be used.

    Args:
        at: Says of a setting where it stands.
    """
    first: dict[str, str] = {}
    for key in (*ENGINES, *ASKED):
        form, example = (_TARGET, "127.0.0.1:8000") if key in ENGINES else (_URL, "http://127.0.0.1:11434")
        for text in listed(values.get(key, "")):
            found = form.fullmatch(text)
            if found is None or not 1 <= int(found["port"] or 80) <= 65_535:
                # What stands before an @ may be a password.
                yield f"{at(key)} holds {text.rpartition('@')[2]!r}; give addresses like {example}, with commas between"
            elif text in first:
                yield f"{at(key)} holds {text} again; {first[text]} has it already"
            else:
                first[text] = key
