"""Writes down what a real driver answers, in the form that `Replay` plays; what identifies a card is masked."""

import re
from collections.abc import Callable
from typing import Any

from llmvitals_exporter.nvml._driver import code_of, identity, text
from llmvitals_exporter.nvml._fields import PARTS

_UUID = re.compile(r"\b(GPU|MIG)-[0-9a-fA-F-]{8,}")
_NOT_WRITTEN = frozenset({"nvmlEventSetCreate", "nvmlDeviceRegisterEvents", "nvmlEventSetWait"})


class Recording:
    """Plays `pynvml` by asking it."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._calls: dict[str, Any] = {}
        self._handles: dict[Any, str] = {}
        self._uuids: dict[str, str] = {}
        self.NVMLError = nvml.NVMLError

    def capture(self, source: str) -> dict[str, Any]:
        """Everything that was asked, with its answer."""
        return {"source": source, "calls": self._calls}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._nvml, name)
        return self._written(name, found) if name.startswith("nvml") and callable(found) else found

    def _written(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if name in _NOT_WRITTEN or name.startswith("nvmlGpmSample") or name == "nvmlGpmMigSampleGet":
            return self._placed(name, function)

        def call(*arguments: Any) -> Any:
            try:
                answer = function(*arguments)
            except self.NVMLError as error:
                self._note(name, arguments, {"error": code_of(error)})
                raise
            self._note(name, arguments, answer)
            return answer

        return call

    def _placed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            answer = function(*arguments)
            if name.endswith("SampleGet"):
                *place, sample = arguments
                self._handles[identity(sample)] = ", ".join(map(self._shown, place))
            return answer

        return call

    def _note(self, name: str, arguments: tuple[Any, ...], answer: Any) -> None:
        if name == "nvmlDeviceGetFieldValues" and not isinstance(answer, dict):
            handle, fields = arguments
            for field, value in zip(fields, answer, strict=True):
                asked = (handle, *field) if isinstance(field, tuple) else (handle, field)
                got = getattr(value.value, PARTS[value.valueType]) if value.nvmlReturn == 0 else None
                self._calls[self._call(name, asked)] = {"error": value.nvmlReturn} if got is None else got
        elif name == "nvmlGpmMetricsGet" and not isinstance(answer, dict):
            metrics = [answer.metrics[position] for position in range(answer.numMetrics)]
            percent = {str(metric.metricId): metric.value for metric in metrics if metric.nvmlReturn == 0}
            self._calls[f"{name}({self._handles[identity(answer.sample2)]})"] = {"struct": percent}
        else:
            if "HandleBy" in name and not isinstance(answer, dict):
                self._handles[identity(answer)] = self._named(name, arguments)
            self._calls[self._call(name, arguments)] = self._encoded(name, answer)

    def _named(self, name: str, arguments: tuple[Any, ...]) -> str:
        return f"{self._shown(arguments[0])}mig{arguments[1]}" if "Mig" in name else f"gpu{arguments[0]}"

    def _call(self, name: str, arguments: tuple[Any, ...]) -> str:
        return f"{name}({', '.join(map(self._shown, arguments))})"

    def _shown(self, argument: Any) -> str:
        if isinstance(argument, int):
            return str(argument)
        return self._handles.get(identity(argument), "?")

    def _encoded(self, name: str, answer: Any) -> Any:
        if isinstance(answer, list | tuple):
            return [self._encoded(name, item) for item in answer]
        if answer is None or isinstance(answer, bool | int | float):
            return answer
        if isinstance(answer, str | bytes):
            return self._masked(name, text(answer))
        if isinstance(answer, dict):
            return answer
        if "HandleBy" in name:
            return {"handle": self._handles[identity(answer)]}
        names = [field[0] for field in getattr(answer, "_fields_", ())] or list(vars(answer))
        return {"struct": {key: self._encoded(name, getattr(answer, key)) for key in names}}

    def _masked(self, name: str, value: str) -> str:
        if "Serial" in name or "ProcessName" in name:
            return "masked"
        return _UUID.sub(lambda match: self._mask(match[0], match[1]), value)

    def _mask(self, uuid: str, kind: str) -> str:
        alike = sum(known.startswith(kind) for known in self._uuids)
        return self._uuids.setdefault(uuid, f"{kind}-00000000-0000-0000-0000-{alike:012d}")
