"""
PromQL as the panels write it.

Every selector is written ``name{...}``, with braces even where they are empty: `metric_names` relies on it, and the
descriptions, which end with the names a panel reads, rely on `metric_names`.
"""

import re

# What the variables of a dashboard narrow. Both have `.+` as "All", so a series without the label is not shown.
SERVICE = 'job=~"$job", instance=~"$instance"'

# An expression for a tile or a bar: one number over the range that the time picker shows.
OVER_RANGE = "$__range"
# An expression for a line. Grafana makes it at least four scrapes long, so that one lost scrape leaves no gap.
OVER_STEP = "$__rate_interval"

_NAME = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{")
_HISTOGRAM_PART = re.compile(r"_(bucket|sum|count)$")


def select(name: str, *matchers: str) -> str:
    """``name{matcher, matcher}``; an empty matcher is left out."""
    return f"{name}{{{', '.join(m for m in matchers if m)}}}"


def rate(name: str, *matchers: str, window: str = OVER_STEP) -> str:
    """Events per second of a counter."""
    return f"rate({select(name, *matchers)}[{window}])"


def increase(name: str, *matchers: str, window: str = OVER_RANGE) -> str:
    """Events of a counter in the window. A series born inside the window lacks its first event."""
    return f"increase({select(name, *matchers)}[{window}])"


def stepped_up(name: str, *by: str) -> str:
    """
    Above zero where a counter is higher than one step before, or is born above zero.

    A moment, where `increase` over a window of several scrapes would give a stretch as long as the window.
    """
    now, before = (total(f"{select(name)}{offset}", *by) for offset in ("", " offset $__interval"))
    return f"({now} - {before} > 0) or ({now} unless {before}) > 0"


def newer(name: str, *by: str) -> str:
    """Above zero where the latest of some moments is later than one step before, or is there for the first time."""
    now, before = (aggregate("max", f"{select(name)}{offset}", *by) for offset in ("", " offset $__interval"))
    return f"({now} - {before} > 0) or ({now} unless {before})"


def aggregate(operator: str, expression: str, *by: str) -> str:
    """``operator by (labels) (expression)``, without the clause when there is no label."""
    clause = f" by ({', '.join(by)})" if by else ""
    return f"{operator}{clause} ({expression})"


def total(expression: str, *by: str) -> str:
    return aggregate("sum", expression, *by)


def ratio(part: str, whole: str) -> str:
    """
    *part* of *whole*, 0 to 1.

    A whole of zero is left out, or idle minutes would draw NaN.
    """
    return f"{part} / ({whole} > 0)"


def share_of_time(expression: str) -> str:
    """Seconds per second, 0 to 1: scrapes are not quite even, and a busy thing would be at 105 %."""
    return f"clamp_max({expression}, 1)"


def top(expression: str, *by: str, last: str, most: int = 10) -> str:
    """
    A sum *by* labels: the *most* highest at each moment, and what the rest adds up to, whose label *last* is "other".

    What is left of a sum by the inexactness of binary fractions is no rest.
    """
    whole = total(expression, *by)
    highest = f"topk({most}, {whole})"
    rest = f'label_replace({total(whole)} - {total(highest)} > 1e-6, "{last}", "other", "", "")'
    return f"{highest} or {rest}"


def share_or_zero(part: str, whole: str) -> str:
    """Like `ratio`, for a *part* whose series is born with its first event: until then it is 0, not missing."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def quantile(q: float, histogram: str, *matchers: str, by: tuple[str, ...] = ("job",), window: str = OVER_STEP) -> str:
    """
    A quantile of a classic histogram.

    ``>= 0`` drops the NaN that a histogram without an observation in the window gives.
    """
    buckets = total(rate(f"{histogram}_bucket", *matchers, window=window), *by, "le")
    return f"histogram_quantile({q}, {buckets}) >= 0"


def recorded_quantile(q: float, buckets: str, *matchers: str, by: tuple[str, ...] = ("job",)) -> str:
    """Like `quantile`, of buckets that a recording rule has already made rates."""
    return f"histogram_quantile({q}, {total(select(buckets, *matchers), *by, 'le')}) >= 0"


def metric_names(expression: str) -> list[str]:
    """The families and recorded series that *expression* reads, in order, each once; histograms by family."""
    names = (_HISTOGRAM_PART.sub("", name) for name in _NAME.findall(expression))
    return list(dict.fromkeys(names))
