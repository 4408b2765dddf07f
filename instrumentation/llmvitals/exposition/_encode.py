"""Prometheus' text formats, byte for byte as prometheus_client writes them (created series off), in less of the time.

One collector that raises, or one family that cannot be written, is left out; the rest is served.
"""

import copy
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from llmvitals.exposition import _lines

log = logging.getLogger("llmvitals")

OnError = Callable[[str, BaseException], None]
"""Told of what was left out: the collector's or family's name, and why."""

# What is read of a registry: a family, and its lines when they could be had without its samples.
_Read = tuple[Metric, list[str] | None]


def encode(registry: Collector, *, on_error: OnError | None = None) -> bytes:
    """Return all that *registry* shows in Prometheus' text format 0.0.4.

    Never raises for what a collector does: what fails is left out and told to *on_error*, or logged once.
    """
    return _encode(registry, _text, on_error or _log_error, exemplars=False).encode("utf-8", "replace")


def encode_openmetrics(registry: Collector, *, on_error: OnError | None = None) -> bytes:
    """Return all that *registry* shows in OpenMetrics 1.0, with exemplars."""
    text = _encode(registry, _openmetrics, on_error or _log_error, exemplars=True)
    return f"{text}# EOF\n".encode("utf-8", "replace")


def _encode(
    registry: Collector,
    write: Callable[[Metric, list[str] | None], list[str]],
    on_error: OnError,
    *,
    exemplars: bool,
) -> str:
    output: list[str] = []
    for family, lines in _families(registry, on_error, exemplars=exemplars):
        try:
            output += write(family, lines)
        except Exception as error:  # noqa: BLE001 -- a value of the wrong type, from any collector
            on_error(str(getattr(family, "name", family)), error)
    _lines.trim(len(output))
    return "".join(output)


def _families(registry: Collector, on_error: OnError, *, exemplars: bool) -> Iterator[_Read]:
    for collector in collectors_of(registry):
        try:
            known = _lines.read(collector, exemplars=exemplars)
        except AttributeError:  # Another prometheus_client than the ones known.
            known = None
        try:
            if known is not None:
                yield known
            else:
                for family in collector.collect():
                    yield family, None
        except Exception as error:  # noqa: BLE001 -- one collector must not spoil the scrape
            on_error(type(collector).__name__, error)


def collectors_of(registry: Any) -> Iterable[Collector]:
    """Return what *registry* is made of, as far as that can be told, so that each part fails for itself."""
    # CollectorRegistry.collect() is one generator over all collectors, which ends with the first that raises. Anything
    # but exactly that class may mean something else by collect(), so it is asked as a whole.
    if type(registry) is not CollectorRegistry:
        parts: Callable[[], Iterable[Collector]] | None = getattr(registry, "collectors", None)
        return (registry,) if parts is None else parts()
    with registry._lock:  # noqa: SLF001 -- the only way to the collectors
        collectors = list(registry._collector_to_names)  # noqa: SLF001
    if registry.get_target_info():
        collectors.insert(0, _TargetInfo(registry))
    return collectors


class _TargetInfo:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        family = Metric("target", "Target metadata", "info")
        family.add_sample("target_info", self._registry.get_target_info() or {}, 1)
        return (family,)


# --- Text 0.0.4 -------------------------------------------------------------------------------------------------------

_TEXT_TYPES = {"info": "gauge", "stateset": "gauge", "gaugehistogram": "histogram", "unknown": "untyped"}
_TEXT_SUFFIXES = {"counter": "_total", "info": "_info"}


def _text(family: Metric, lines: list[str] | None) -> list[str]:
    output = [_text_head(family, _TEXT_SUFFIXES.get(family.type, ""), _TEXT_TYPES.get(family.type, family.type))]
    if lines is not None:
        return output + lines
    # OpenMetrics knows these as part of the family; here each is a gauge of its own, after it.
    apart: dict[str, list[str]] = {}
    names_apart = {f"{family.name}{suffix}": suffix for suffix in ("_created", "_gsum", "_gcount")}
    for sample in family.samples:
        line = _lines.line(sample)
        if sample.timestamp is not None:
            line = f"{line[:-1]} {int(float(sample.timestamp) * 1000):d}\n"
        suffix = names_apart.get(sample.name)
        if suffix is None:
            output.append(line)
        elif suffix != "_created":
            apart.setdefault(suffix, []).append(line)
    for suffix, gauge_lines in sorted(apart.items()):
        output += (_text_head(family, suffix, "gauge"), *gauge_lines)
    return output


def _text_head(family: Metric, suffix: str, kind: str) -> str:
    name = openmetrics.escape_metric_name(family.name + suffix)
    text = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


# --- OpenMetrics ------------------------------------------------------------------------------------------------------

_EXEMPLARY = {"counter": "_total", "histogram": "_bucket", "gaugehistogram": "_bucket"}


def _openmetrics(family: Metric, lines: list[str] | None) -> list[str]:
    if lines is None:
        samples = [sample for sample in family.samples if sample.name != f"{family.name}_created"]
        if any(map(_is_strange, samples)):
            return [_prometheus_client_openmetrics(family, samples)]
        lines = [_openmetrics_line(family, sample) for sample in samples]
    name = openmetrics.escape_metric_name(family.name)
    head = f"# HELP {name} {_lines.escape(family.documentation)}\n# TYPE {name} {family.type}\n"
    if family.unit:
        head += f"# UNIT {name} {family.unit}\n"
    return [head, *lines]


def _openmetrics_line(family: Metric, sample: Sample) -> str:
    line = _lines.line(sample)
    if sample.timestamp is None and not sample.exemplar:
        return line
    stamp = "" if sample.timestamp is None else f" {sample.timestamp}"
    exemplar = ""
    if sample.exemplar:
        if (family.type, sample.name) != ("histogram", family.name) and not sample.name.endswith(
            _EXEMPLARY.get(family.type, " ")
        ):
            raise ValueError(f"{sample.name} has an exemplar, and is neither a counter nor a histogram's bucket")
        exemplar = _lines.exemplar_text(sample.exemplar)
    return f"{line[:-1]}{stamp}{exemplar}\n"


def _is_strange(sample: Sample) -> bool:
    return bool(sample.native_histogram) or ":" in sample.name


def _prometheus_client_openmetrics(family: Metric, samples: list[Sample]) -> str:
    """Write a family with native histograms or a colon in its name: too rare for an encoder of our own."""
    family = copy.copy(family)
    family.samples = samples
    text: str = openmetrics.generate_latest(_One(family)).decode()  # type: ignore[no-untyped-call]  # untyped there
    return text.removesuffix("# EOF\n")


class _One:
    """The registry of a single family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


_told: set[str] = set()


def _log_error(what: str, error: BaseException) -> None:
    kind = f"{what}:{type(error).__name__}"
    if kind not in _told:
        _told.add(kind)
        log.warning("llmvitals: %s is left out of /metrics: %s: %s", what, type(error).__name__, error)
