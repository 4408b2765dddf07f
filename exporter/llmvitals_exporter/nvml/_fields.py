"""NVML's field values: what has a number instead of a function, asked for all at once."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llmvitals_exporter._answering import Reading
from llmvitals_exporter.nvml._driver import number

#: Field, name, labels, factor to base units. The numbers are those of nvml.h, NVML_FI_DEV_...
_FIELDS: dict[int, tuple[str, tuple[str, ...], float]] = {
    74: ("throttle_seconds_total", ("power",), 1e-9),  # PERF_POLICY_..., in nanoseconds.
    75: ("throttle_seconds_total", ("thermal",), 1e-9),
    76: ("throttle_seconds_total", ("sync_boost",), 1e-9),
    77: ("throttle_seconds_total", ("board_limit",), 1e-9),
    78: ("throttle_seconds_total", ("low_utilization",), 1e-9),
    79: ("throttle_seconds_total", ("reliability",), 1e-9),
    82: ("temperature_celsius", ("memory",), 1.0),  # MEMORY_TEMP
    230: ("recovery_action", (), 1.0),  # GET_GPU_RECOVERY_ACTION
}
#: The same of one link, whose number is the field's scope.
_LINK_FIELDS: dict[int, tuple[str, tuple[str, ...], float]] = {
    138: ("nvlink_transmit_bytes_total", (), 1024.0),  # NVLINK_THROUGHPUT_DATA_TX, in KiB.
    139: ("nvlink_receive_bytes_total", (), 1024.0),  # NVLINK_THROUGHPUT_DATA_RX
}
_MEMORY_TEMPERATURE = 82
#: By nvmlValueType_t, the part of the union that holds the value.
PARTS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


def field_readings(ask: Callable[..., Any], link: int | None = None) -> Iterator[Reading]:
    """The card's fields, or those of one NVLink."""
    fields = _FIELDS if link is None else _LINK_FIELDS
    asked: Sequence[Any] = list(fields) if link is None else [(field, link) for field in fields]
    answers = ask("nvmlDeviceGetFieldValues", asked)
    if answers is None:
        return
    for (field, (name, labels, factor)), answer in zip(fields.items(), answers, strict=False):
        value = _value(answer)
        # 0 degrees is what cards without the sensor say.
        if value is not None and (value or field != _MEMORY_TEMPERATURE):
            yield name, [*([] if link is None else [str(link)]), *labels], value * factor


def _value(answer: Any) -> int | None:
    kind = answer.valueType
    if answer.nvmlReturn != 0 or not 0 < kind < len(PARTS):
        return None
    return number(getattr(answer.value, PARTS[kind]))
