"""Activity by hardware counters (GPM, from Hopper on), and the instances of a card that MIG splits."""

from collections.abc import Callable, Iterator
from typing import Any

from llmvitals_exporter._answering import Reading
from llmvitals_exporter.nvml._card import Card, memory_readings
from llmvitals_exporter.nvml._driver import text

#: NVML_GPM_METRIC_..., in percent.
_METRICS = {1: "graphics_activity", 2: "sm_activity", 3: "sm_occupancy", 5: "tensor_activity", 10: "dram_activity"}
_WHOLE_CARD = -1


class Activity:
    """Ratios between two looks at the counters of a card or an instance; the first look gives none."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, int], Any] = {}

    def readings(self, card: Card) -> Iterator[Reading]:
        """Of the whole card, or, where it is split, of each instance, which have their memory besides."""
        supported = getattr(card.ask("nvmlGpmQueryDeviceSupport"), "isSupportedDevice", 0)
        if not card.has_instances:
            if supported:
                yield from self._ratios(card, _WHOLE_CARD, "", [])
            return
        for instance, device in instances(card).items():
            yield from device
            if supported:
                yield from self._ratios(card, instance, "mig_", [str(instance)])

    def _ratios(self, card: Card, instance: int, prefix: str, labels: list[str]) -> Iterator[Reading]:
        sample = card.ask_driver("nvmlGpmSampleAlloc")
        if sample is None:
            return
        if instance == _WHOLE_CARD:
            taken = card.ask("nvmlGpmSampleGet", sample)
        else:
            taken = card.ask("nvmlGpmMigSampleGet", instance, sample)
        if taken is None:
            card.ask_driver("nvmlGpmSampleFree", sample)
            return
        before = self._samples.get((card.uuid, instance))
        self._samples[card.uuid, instance] = sample
        if before is None:
            return
        yield from _between(card, before, sample, prefix, labels)
        card.ask_driver("nvmlGpmSampleFree", before)


def _between(card: Card, before: Any, after: Any, prefix: str, labels: list[str]) -> Iterator[Reading]:
    make: Callable[[], Any] | None = getattr(card.nvml, "c_nvmlGpmMetricsGet_t", None)
    if make is None:
        return
    question = make()
    question.version = getattr(card.nvml, "NVML_GPM_METRICS_GET_VERSION", 1)
    question.numMetrics = len(_METRICS)
    question.sample1, question.sample2 = before, after
    for position, metric in enumerate(_METRICS):
        question.metrics[position].metricId = metric
    answer = card.ask_driver("nvmlGpmMetricsGet", question)
    if answer is None:
        return
    for position, name in enumerate(_METRICS.values()):
        metric = answer.metrics[position]
        if metric.nvmlReturn == 0 and 0 <= metric.value <= 100:  # NaN is not either.
            yield f"{prefix}{name}_ratio", labels, metric.value / 100


def instances(card: Card) -> dict[int, list[Reading]]:
    """The GPU instances by their ids, each with its identity and its memory, which all its compute instances share."""
    found: dict[int, list[Reading]] = {}
    for index in range(card.ask("nvmlDeviceGetMaxMigDeviceCount") or 0):
        device = card.ask("nvmlDeviceGetMigDeviceHandleByIndex", index)
        if device is None:
            continue
        instance = card.ask_driver("nvmlDeviceGetGpuInstanceId", device)
        compute = card.ask_driver("nvmlDeviceGetComputeInstanceId", device)
        if not isinstance(instance, int):
            continue
        readings = found.setdefault(instance, [])
        labels = [str(instance)]
        if not readings:
            memory = card.ask_driver("nvmlDeviceGetMemoryInfo", device)
            readings += memory_readings("mig_memory", labels, memory)
        uuid, name = (text(card.ask_driver(f"nvmlDeviceGet{what}", device)) for what in ("UUID", "Name"))
        readings.append(("mig_info", [*labels, "" if compute is None else str(compute), uuid, name], 1.0))
    return found
