"""What is answered to whom: some collectors or all of them, within the time of who asks."""

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from urllib.parse import parse_qsl

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from llmvitals.exposition import Page
from llmvitals_exporter._scrape import Scrape, View
from llmvitals_exporter.catalogue import BUILD_INFO

#: Prometheus tells its patience in this header. Our answer must have arrived by then.
_TIMEOUT_HEADER = "x-prometheus-scrape-timeout-seconds"
_MARGIN_SECONDS = 0.5
#: However short the patience: with less than this nothing would ever be collected.
_LEAST_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Site:
    """The exporter as HTTP shows it.

    Args:
        collectors: The names that may be asked for.
    """

    scrape: Scrape
    collectors: Sequence[str]

    @property
    def registry(self) -> CollectorRegistry:
        """All that there is, without a limit of time."""
        registry = CollectorRegistry()
        for part in _whole(View(self.scrape)):
            registry.register(part)
        return registry

    def select(self, query: str, headers: Mapping[str, str]) -> Collector | Page:
        """What this request asks for with ``collect[]`` or ``exclude[]``, as node_exporter has them; all without."""
        asked = parse_qsl(query, keep_blank_values=True)
        chosen = {name for key, name in asked if key == "collect[]"}
        left_out = {name for key, name in asked if key == "exclude[]"}
        if chosen and left_out:
            return Page("Give collect[] or exclude[], not both.\n", status="400 Bad Request")
        unknown = sorted((chosen | left_out) - set(self.collectors))
        if unknown:
            # Not repeated as it came: it is anybody's text.
            text = f"There is no collector {unknown[0]!a:.80}; there are {', '.join(self.collectors)}.\n"
            return Page(text, status="400 Bad Request")
        within = _patience(headers.get(_TIMEOUT_HEADER, ""))
        if chosen:
            return View(self.scrape, frozenset(chosen), within)
        if left_out:
            return View(self.scrape, frozenset(self.collectors) - left_out, within)
        return _Parts(_whole(View(self.scrape, within=within)))

    def landing(self, _: Mapping[str, str]) -> Page:
        """The page at ``/``, for a person who wants to know what this is."""
        rows = "".join(
            f'<li><a href="/metrics?collect[]={html.escape(name)}">{html.escape(name)}</a></li>'
            for name in self.collectors
        )
        return Page(_LANDING.format(version=html.escape(version("llmvitals")), rows=rows), "text/html; charset=utf-8")


_LANDING = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>llmvitals-exporter</title>
<style>
  :root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }}
  main {{ max-width: 42rem; margin: 3rem auto; padding: 0 1rem; }}
  ul {{ columns: 12rem auto; padding-left: 1.2rem; }}
</style>
<main>
<h1>llmvitals-exporter {version}</h1>
<p><a href="/metrics">Metrics</a> for Prometheus; <a href="/-/healthy">healthy</a>, <a href="/-/ready">ready</a>
for a probe.</p>
<h2>Collectors</h2>
<ul>{rows}</ul>
</main>
</html>
"""


@dataclass(frozen=True, slots=True)
class _Parts(Collector):
    """Several collectors as one."""

    parts: Sequence[Collector]

    def collect(self) -> Iterator[Metric]:
        for part in self.parts:
            yield from part.collect()


class _Constant(Collector):
    """A family that never changes."""

    def __init__(self, family: GaugeMetricFamily) -> None:
        self._family = family

    def collect(self) -> list[Metric]:
        return [self._family]


@cache
def _always() -> tuple[Collector, ...]:
    """What every whole scrape has besides the collectors; made once, because the version is read from a file."""
    build = GaugeMetricFamily(BUILD_INFO.name, BUILD_INFO.help, labels=BUILD_INFO.labels)
    build.add_metric([version("llmvitals")], 1.0)
    return ProcessCollector(registry=None), _Constant(build)


def _whole(view: View) -> tuple[Collector, ...]:
    return view, *_always()


def _patience(header: str) -> float:
    try:
        seconds = float(header)
    except ValueError:
        return math.inf
    # NaN is no number of seconds either.
    return max(_LEAST_SECONDS, seconds - _MARGIN_SECONDS) if seconds > 0 else math.inf
