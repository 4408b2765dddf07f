"""What a client would rather have, as RFC 9110 says: the format by ``Accept``, the coding by ``Accept-Encoding``."""

from collections.abc import Iterator


def prefers_openmetrics(accept: str) -> bool:
    """Say whether an ``Accept`` header wants OpenMetrics 1.0 more than plain text.

    Of the ranges that match a format, the most specific counts. Who takes anything gets plain text.
    """
    named, openmetrics = _quality_of("application", "openmetrics-text", "1.0.0", accept)
    _, plain = _quality_of("text", "plain", "0.0.4", accept)
    return openmetrics > 0 and (openmetrics > plain or (named and openmetrics == plain))


def prefers_gzip(accept_encoding: str) -> bool:
    """Say whether an ``Accept-Encoding`` header takes gzip, and likes it no less than the plain body."""
    qualities = {name: _quality(parameters) for name, parameters in _elements(accept_encoding)}
    gzip = qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0)))
    return gzip > 0 and gzip >= qualities.get("identity", 0.0)


def _quality_of(kind: str, subtype: str, version: str, accept: str) -> tuple[bool, float]:
    """Whether a format is named, and how much it is wanted; 0 is not at all."""
    best = (-1, 0.0)
    for name, parameters in _elements(accept):
        asked = parameters.get("version")
        if name == f"{kind}/{subtype}" and asked in (None, version):
            specificity = 2 if asked is None else 3
        elif name in (f"{kind}/*", "*/*"):
            specificity = 0 if name == "*/*" else 1
        else:
            continue
        best = max(best, (specificity, _quality(parameters)))
    return best[0] > 1, best[1]


def _elements(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    for element in header.split(","):
        name, *parameters = (part.strip().lower() for part in element.split(";"))
        pairs = (parameter.partition("=") for parameter in parameters)
        yield name, {key.strip(): value.strip().strip('"') for key, _, value in pairs}


def _quality(parameters: dict[str, str]) -> float:
    try:
        quality = float(parameters.get("q", "1"))
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0
