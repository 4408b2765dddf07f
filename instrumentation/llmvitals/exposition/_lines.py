"""Sample lines: the text before a value is made once and kept, because it is the same in every scrape."""

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any
from weakref import WeakKeyDictionary

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

from llmvitals._series import OwnMetric

# --- Any collector ----------------------------------------------------------------------------------------------------

# By name, label names and label values: it depends on nothing else, so all registries share it.
_prefixes: dict[tuple[str, ...], str] = {}
_PREFIXES_SPARED = 10_000


def line(sample: Sample) -> str:
    """Write one sample as both formats write it, without its timestamp and exemplar."""
    labels = sample.labels
    key = (sample.name, *labels, *labels.values())
    prefix = _prefixes.get(key)
    if prefix is None:
        prefix = _prefixes[key] = make_prefix(sample.name, labels)
    return f"{prefix}{number(sample.value)}\n"


def make_prefix(name: str, labels: Mapping[str, str]) -> str:
    pairs = ",".join(
        f'{openmetrics.escape_label_name(label)}="{escape(value)}"' for label, value in sorted(labels.items())
    )
    return (
        f"{openmetrics.escape_metric_name(name)}{{{pairs}}} " if pairs else f"{openmetrics.escape_metric_name(name)} "
    )


def exemplar_text(exemplar: Exemplar) -> str:
    """Write what follows a value in OpenMetrics."""
    pairs = ",".join(f'{name}="{escape(value)}"' for name, value in sorted(exemplar.labels.items()))
    stamp = "" if exemplar.timestamp is None else f" {exemplar.timestamp}"
    return f" # {{{pairs}}} {number(exemplar.value)}{stamp}"


def escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def number(value: Any) -> str:
    if type(value) is float and -1e6 < value < 1e6:
        return repr(value)
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]  # untyped there
    return text


def trim(lines_written: int) -> None:
    """Forget all kept text once most of it belongs to series that are gone."""
    if len(_prefixes) > 4 * lines_written + _PREFIXES_SPARED:
        _prefixes.clear()


# --- prometheus_client's metrics, and ours ----------------------------------------------------------------------------

# Reading their values directly leaves out building a sample, a dict of labels and the text of "le" for every line, each
# dearer than the line. Of prometheus_client's it reads private attributes, stable since 2018: whatever looks different
# is left to collect().
_children: WeakKeyDictionary[Any, dict[tuple[str, ...], list[str]]] = WeakKeyDictionary()


def read(metric: Any, *, exemplars: bool) -> tuple[Metric, list[str]] | None:
    """Return a Counter, Gauge or Histogram, prometheus_client's or ours, as its family without samples and its lines.

    None when only ``collect()`` can tell them.
    """
    kind = type(metric)
    if kind is OwnMetric and not metric.hidden:
        series = metric.series()
    elif kind not in (Counter, Gauge, Histogram) or ":" in metric._name:  # noqa: SLF001 -- OpenMetrics rewrites colons
        return None
    elif metric._labelnames:  # noqa: SLF001
        with metric._lock:  # noqa: SLF001
            series = list(metric._metrics.items())  # noqa: SLF001
    else:
        series = [((), metric)]
    kept = _children.setdefault(metric, {})
    if len(kept) > 2 * len(series) + 16:
        kept.clear()
    output: list[str] = []
    for values, child in series:
        amounts = child.amounts() if kind is OwnMetric else _amounts(kind, child)
        if amounts is None:
            return None
        prefixes = kept.get(values)
        if prefixes is None:
            own = metric.samples_of(values) if kind is OwnMetric else _samples(kind, metric, child, values)
            prefixes = kept[values] = [make_prefix(name, labels) for name, labels in own]
        found = (child.exemplars if kind is OwnMetric else _exemplars(kind, child)) if exemplars else None
        first = len(output)
        output += [f"{prefix}{number(amount)}\n" for prefix, amount in zip(prefixes, amounts, strict=True)]
        if found:
            for index, exemplar in found.items():
                output[first + index] = f"{output[first + index][:-1]}{exemplar_text(exemplar)}\n"
    return metric.describe()[0], output


def _amounts(kind: type, child: Any) -> Iterable[float] | None:
    if kind is Gauge:
        # set_function() puts its own _child_samples on the child.
        return None if "_child_samples" in vars(child) else (child._value.get(),)  # noqa: SLF001
    if kind is Counter:
        return (child._value.get(),)  # noqa: SLF001
    amounts = list(accumulate([bucket.get() for bucket in child._buckets]))  # noqa: SLF001
    if child._upper_bounds[0] < 0:  # noqa: SLF001 -- such a histogram has no sum; rare enough for the slow way
        return None
    amounts += (amounts[-1], child._sum.get())  # noqa: SLF001
    return amounts


def _exemplars(kind: type, child: Any) -> dict[int, Exemplar]:
    """By the index of the line that each belongs to."""
    if kind is Gauge:
        return {}
    found = [value.get_exemplar() for value in ([child._value] if kind is Counter else child._buckets)]  # noqa: SLF001
    return {index: exemplar for index, exemplar in enumerate(found) if exemplar is not None} if any(found) else {}


def _samples(kind: type, metric: Any, child: Any, values: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    name = metric._name  # noqa: SLF001
    labels = dict(zip(metric._labelnames, values, strict=True))  # noqa: SLF001
    if kind is Histogram:
        bounds = child._upper_bounds  # noqa: SLF001
        buckets = [(f"{name}_bucket", {**labels, "le": number(bound)}) for bound in bounds]
        return [*buckets, (f"{name}_count", labels), (f"{name}_sum", labels)]
    return [(name if kind is Gauge else f"{name}_total", labels)]
