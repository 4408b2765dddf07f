"""prometheus/slo.yml as objects: read whole, and every mistake told at once."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import yaml

# The bounds that OpenTelemetry's and our histograms of durations share. None is an integer: Prometheus 2 and 3 write
# those differently.
BOUNDS: tuple[float, ...] = tuple(round(0.01 * 2.0**n, 2) for n in range(14))
LABELS = frozenset({"src", "provider", "model", "operation", "voice"})
SOURCES = ("client", "gateway", "engine")
SEVERITIES = ("critical", "warning", "info")
COMPONENTS = ("llm", "app", "gpu", "exporter", "stack")

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_ALERT = re.compile(r"[A-Z][A-Za-z0-9]*")
_JOB = re.compile(r"[A-Za-z0-9_.:/-]+")


class SpecError(ValueError):
    """slo.yml has mistakes; `problems` has a sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True, slots=True)
class Sli:
    """Bad events of all events; with a threshold, `total` is a histogram's buckets and there are no `errors`."""

    total: str
    errors: str | None
    threshold_seconds: float | None
    match: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Alert:
    name: str
    component: str
    page: str
    ticket: str
    trouble: str
    first_check: str


@dataclass(frozen=True, slots=True)
class Slo:
    name: str
    description: str
    objective: float
    sli: Sli
    services: tuple[str, ...] | None
    """None means whichever there are."""
    excepted: tuple[str, ...]
    minimum_events: int
    alert: Alert


@dataclass(frozen=True, slots=True)
class Spec:
    period_days: int
    slos: tuple[Slo, ...]


def load(path: Path, *, recorded: Collection[str]) -> Spec:
    """The objectives of *path*, whose series must be among *recorded*; raises SpecError with all that is wrong."""
    try:
        content = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SpecError([f"{path.name}: cannot be read as YAML: {' '.join(str(error).split())}"]) from None
    except RecursionError:
        raise SpecError([f"{path.name}: is nested too deeply"]) from None
    reader = _Reader(path.name, recorded)
    spec = reader.spec(content)
    if reader.problems:
        raise SpecError(reader.problems)
    return spec


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice: YAML would silently take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


class _Reader:
    """Goes through the file once; what cannot be read is noted, and a harmless value stands in for it."""

    def __init__(self, file: str, recorded: Collection[str]) -> None:
        self._file = file
        self._recorded = recorded
        self.problems: list[str] = []

    def spec(self, content: object) -> Spec:
        top = self._mapping(content, "", {"period_days", "slos"})
        period = self._number(top, "period_days", "", 7, 90, whole=True)
        entries = top.get("slos")
        if not isinstance(entries, list) or not entries:
            self._wrong("slos", "must be a list of at least one objective")
            entries = []
        slos = tuple(self._slo(entry, f"slos[{number}]") for number, entry in enumerate(entries))
        for what, names in (("name", [slo.name for slo in slos]), ("alert.name", [slo.alert.name for slo in slos])):
            for name in sorted({name for name in names if name and names.count(name) > 1}):
                self._wrong("slos", f"{what} {name!r} is there twice")
        return Spec(int(period), slos)

    def _slo(self, content: object, where: str) -> Slo:
        known = {"name", "description", "objective", "sli", "services", "except", "minimum_events", "alert"}
        entry = self._mapping(content, where, known)
        name = self._text(entry, "name", where, _NAME, "lower-case words joined by -")
        where = f"{where} ({name})" if name else where
        objective = self._number(entry, "objective", where, 0, 100, open_ends=True)
        services = None if entry.get("services") == "all" else self._jobs(entry, "services", where)
        if services is not None and "except" in entry:
            self._wrong(f"{where}.except", "only goes with services: all")
        return Slo(
            name=name,
            description=self._text(entry, "description", where),
            objective=objective,
            sli=self._sli(entry.get("sli"), f"{where}.sli"),
            services=services,
            excepted=self._jobs(entry, "except", where) if "except" in entry else (),
            minimum_events=int(self._number(entry, "minimum_events", where, 1, 1e9, whole=True)),
            alert=self._alert(entry.get("alert"), f"{where}.alert"),
        )

    def _sli(self, content: object, where: str) -> Sli:
        entry = self._mapping(content, where, {"errors", "total", "buckets", "threshold_seconds", "match"})
        match = self._match(entry.get("match", {}), f"{where}.match")
        if match.get("src") not in [(source,) for source in SOURCES]:
            self._wrong(f"{where}.match.src", f"must be one of {', '.join(SOURCES)}: each sees the same calls again")
        if "buckets" in entry or "threshold_seconds" in entry:
            for extra in sorted({"errors", "total"} & set(entry)):
                self._wrong(f"{where}.{extra}", "does not go with buckets")
            buckets = self._metric(entry, "buckets", where)
            if buckets and "_bucket:" not in buckets:
                self._wrong(f"{where}.buckets", f"{buckets} has no buckets")
            return Sli(buckets, None, self._bound(entry, "threshold_seconds", where), match)
        return Sli(self._metric(entry, "total", where), self._metric(entry, "errors", where), None, match)

    def _alert(self, content: object, where: str) -> Alert:
        entry = self._mapping(content, where, {"name", "component", "page", "ticket", "trouble", "first_check"})
        return Alert(
            name=self._text(entry, "name", where, _ALERT, "CamelCase"),
            component=self._one_of(entry, "component", where, COMPONENTS, "llm"),
            page=self._one_of(entry, "page", where, SEVERITIES, "critical"),
            ticket=self._one_of(entry, "ticket", where, SEVERITIES, "warning"),
            trouble=self._text(entry, "trouble", where),
            first_check=self._text(entry, "first_check", where),
        )

    # --- Values -------------------------------------------------------------------------------------------------------

    def _wrong(self, where: str, what: str) -> None:
        self.problems.append(f"{self._file}: {where}: {what}" if where else f"{self._file}: {what}")

    def _mapping(self, content: object, where: str, known: Collection[str]) -> Mapping[str, Any]:
        if not isinstance(content, dict):
            self._wrong(where, f"must be a mapping with {', '.join(sorted(known))}")
            return {}
        for key in content:
            if key not in known:
                self._wrong(f"{where}.{key}".lstrip("."), f"is unknown; there are {', '.join(sorted(known))}")
        return content

    def _text(
        self, entry: Mapping[str, Any], key: str, where: str, pattern: re.Pattern[str] | None = None, what: str = ""
    ) -> str:
        value = entry.get(key)
        if not isinstance(value, str) or not value.strip() or not value.isprintable() or "{{" in value:
            self._wrong(f"{where}.{key}", "must be a text on one line, without templates")
            return ""
        if pattern and not pattern.fullmatch(value):
            self._wrong(f"{where}.{key}", f"{value!r} must be {what}")
            return ""
        return value

    def _number(
        self,
        entry: Mapping[str, Any],
        key: str,
        where: str,
        low: float,
        high: float,
        *,
        whole: bool = False,
        open_ends: bool = False,
    ) -> float:
        value = entry.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            inside = low < value < high if open_ends else low <= value <= high
            if inside and not (whole and value != int(value)):
                return float(value)
        kind = "a whole number" if whole else "a number"
        between = "between" if open_ends else "from"
        self._wrong(
            f"{where}.{key}".lstrip("."),
            f"{shown(value)} must be {kind} {between} {low:g} {'and' if open_ends else 'to'} {high:g}",
        )
        return (low + high) / 2

    def _one_of(self, entry: Mapping[str, Any], key: str, where: str, allowed: Sequence[str], default: str) -> str:
        value = entry.get(key, default)
        if value not in allowed:
            self._wrong(f"{where}.{key}", f"{shown(value)} must be one of {', '.join(allowed)}")
            return default
        return str(value)

    def _metric(self, entry: Mapping[str, Any], key: str, where: str) -> str:
        value = self._text(entry, key, where)
        if value and value not in self._recorded:
            self._wrong(f"{where}.{key}", f"{value} is recorded by no rule in rules/recording")
            return ""
        return value

    def _bound(self, entry: Mapping[str, Any], key: str, where: str) -> float:
        value = entry.get(key)
        for bound in BOUNDS:
            if value == bound:
                return bound
        bounds = ", ".join(f"{bound:g}" for bound in BOUNDS)
        self._wrong(f"{where}.{key}", f"{shown(value)} is no bucket's bound; there are {bounds}")
        return BOUNDS[0]

    def _jobs(self, entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
        value = entry.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and _JOB.fullmatch(v) for v in value):
            alternative = "`all`, or " if key == "services" else ""
            self._wrong(f"{where}.{key}", f"must be {alternative}a list of jobs' names")
            return ()
        return tuple(value)

    def _match(self, content: object, where: str) -> dict[str, tuple[str, ...]]:
        entry = self._mapping(content, where, LABELS)
        found = {}
        for label, value in entry.items():
            values = value if isinstance(value, list) else [value]
            if not values or not all(isinstance(v, str) and _JOB.fullmatch(v) for v in values):
                self._wrong(
                    f"{where}.{label}", "must be a value, or a list of values, of letters, digits and _ . : / -"
                )
                continue
            found[str(label)] = tuple(values)
        return found
