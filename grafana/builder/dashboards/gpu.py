"""GPU: are the cards busy, cool and whole?"""

from typing import Any

from grafana.builder.dashboards.machine import NO_GPU
from grafana.builder.dashboards.shared import annotations, service_variables, worst
from grafana.builder.layout import Row, dashboard
from grafana.builder.overrides import color_by_name, dashed, value_map
from grafana.builder.panels import Column, Panel, Query, alerted, stat, table, timeseries
from grafana.builder.pictures import state_timeline
from grafana.builder.promql import SERVICE, aggregate, increase, rate, ratio, select, total
from grafana.builder.thresholds import ANY_IS_BAD, ANY_IS_WARNING, GPU_MEMORY_RATIO, GPU_TEMPERATURE, Limit

GPU = "llmvitals_gpu_"
CARD = ("job", "instance", "uuid")
# Reasons that hold a card back because something is wrong, as the alert has them.
TROUBLES = 'reason=~"hw_thermal_slowdown|sw_thermal_slowdown|hw_power_brake_slowdown"'
NAME = "{{index}} {{name}}"
CLOCKS = {"sm": "blue", "memory": "purple", "graphics": "super-light-blue", "video": "text"}
# By their index, and none of the colours that judge.
CARDS = color_by_name(
    {
        "0 ": "blue",
        "1 ": "purple",
        "2 ": "orange",
        "3 ": "super-light-blue",
        "4 ": "dark-blue",
        "5 ": "super-light-purple",
        "6 ": "dark-orange",
        "7 ": "text",
    }
)
# nvmlDeviceGpuRecoveryAction_t, as the exporter's help has it.
ASKED_FOR = value_map(
    {
        0: ("nothing", "green"),
        1: ("reset", "red"),
        2: ("reboot", "red"),
        3: ("drain peers", "red"),
        4: ("drain, then reset", "red"),
    }
)


def build() -> dict[str, Any]:
    rows = [
        Row(1, "", _first_line()),
        Row(100, "Load", _load()),
        Row(200, "Power and heat", _heat()),
        Row(300, "Health", _health()),
        Row(400, "Links, engines and shares of a card", _links()),
    ]
    return dashboard(
        "llmvitals-gpu",
        "llmvitals / GPU",
        "Are the cards busy, cool and whole?",
        variables=service_variables(f"{GPU}count"),
        annotations=annotations(),
        rows=rows,
    )


def _card(name: str, *matchers: str) -> str:
    return select(f"{GPU}{name}", SERVICE, *matchers)


def _named(expression: str) -> str:
    """With the index and the name of each card, in place of a uuid that says nothing to a person."""
    return f"{expression} * on (job, instance, uuid) group_left (index, name) {_card('info')}"


def _memory() -> str:
    return ratio(_card("memory_used_bytes"), _card("memory_total_bytes"))


def _first_line() -> list[Panel]:
    def tile(ident: int, title: str, about: str, query: str, *, unit: str, limit: Limit | None = None) -> Panel:
        decimals = 0 if unit in {"percentunit", "none"} else None
        return stat(ident, title, about, Query(query), unit=unit, limit=limit, decimals=decimals, no_value=NO_GPU)

    xid = f"{total(increase(f'{GPU}xid_errors_total', SERVICE))} or 0 * {total(_card('count'))}"
    return [
        tile(2, "GPUs", f"That the drivers show. {alerted('GPUMissing')}", total(_card("count")), unit="none"),
        tile(3, "Busiest", "Share of the time with a kernel.", worst(_card("utilization_ratio")), unit="percentunit"),
        tile(4, "Fullest", "Memory in use.", worst(_memory()), unit="percentunit", limit=GPU_MEMORY_RATIO),
        tile(
            5,
            "Hottest",
            "The chip's own sensor.",
            worst(_card("temperature_celsius", 'sensor="gpu"')),
            unit="celsius",
            limit=GPU_TEMPERATURE,
        ),
        tile(6, "Power", "All cards together.", total(_card("power_watts")), unit="watt"),
        tile(
            7,
            "Least busy",
            f"Share of the time with a kernel. {alerted('GPUIdle')}",
            aggregate("min", _card("utilization_ratio")),
            unit="percentunit",
        ),
        tile(
            8,
            "Held back",
            f"Cards that heat or a fault of the power supply slows down now. {alerted('GPUThrottled')}",
            f"count({aggregate('max', _card('throttle_active', TROUBLES), 'uuid')} > 0) or 0 * {total(_card('count'))}",
            unit="none",
            limit=ANY_IS_WARNING,
        ),
        tile(9, "XID errors", f"In the chosen range. {alerted('GPUXidError')}", xid, unit="none", limit=ANY_IS_BAD),
    ]


def _load() -> list[Panel]:
    return [
        timeseries(
            101,
            "Utilisation",
            "Share of the time in which a kernel ran: 100 % does not mean that all of the card worked.",
            [Query(_named(_card("utilization_ratio")), NAME)],
            unit="percentunit",
            high=1,
            overrides=CARDS,
            no_value=NO_GPU,
        ),
        timeseries(
            102,
            "Memory in use",
            "Share of the card's own; the dashed line is the alert's.",
            [Query(_named(_memory()), NAME)],
            unit="percentunit",
            high=1,
            limit=GPU_MEMORY_RATIO,
            overrides=CARDS,
            no_value=NO_GPU,
        ),
        timeseries(
            103,
            "Memory in bytes",
            "In use; dashed is what the card has.",
            [
                Query(_named(_card("memory_used_bytes")), NAME),
                Query(aggregate("max", _card("memory_total_bytes")), "of the largest card"),
            ],
            unit="bytes",
            overrides=[*CARDS, dashed("of the largest", "text")],
            no_value=NO_GPU,
        ),
        timeseries(
            104,
            "What of the card worked",
            "By hardware counters, on average over the cards: multiprocessors, tensor cores, memory bandwidth.",
            [
                Query(aggregate("avg", _card(f"{what}_activity_ratio")), text)
                for what, text in (("sm", "multiprocessors"), ("tensor", "tensor cores"), ("dram", "memory bandwidth"))
            ],
            unit="percentunit",
            high=1,
            overrides=color_by_name({"multi": "blue", "tensor": "purple", "memory": "orange"}),
            no_value="No GPU here, or no hardware counters",
        ),
        timeseries(
            105,
            "Copying and video",
            "Share of the time, of the card that does most of it: memory read or written, video encoded and decoded.",
            [
                Query(worst(_card(f"{name}_utilization_ratio")), text)
                for name, text in (
                    ("memory_copy", "memory read or written"),
                    ("encoder", "video encoded"),
                    ("decoder", "video decoded"),
                )
            ],
            unit="percentunit",
            high=1,
            overrides=color_by_name({"memory": "blue", "video encoded": "purple", "video decoded": "orange"}),
            no_value=NO_GPU,
        ),
        timeseries(
            106,
            "Processes",
            "That compute on each card.",
            [Query(_named(_card("processes")), NAME)],
            unit="short",
            stepped=True,
            decimals=0,
            soft_high=1,
            overrides=CARDS,
            no_value=NO_GPU,
        ),
    ]


def _heat() -> list[Panel]:
    return [
        timeseries(
            201,
            "Power drawn",
            "By each card; dashed is what it may draw.",
            [
                Query(_named(_card("power_watts")), NAME),
                Query(aggregate("max", _card("power_limit_watts")), "limit of one card"),
            ],
            unit="watt",
            overrides=[*CARDS, dashed("limit", "yellow")],
            no_value=NO_GPU,
        ),
        timeseries(
            202,
            "Temperature of the chip",
            "The dashed lines are the alert's.",
            [Query(_named(_card("temperature_celsius", 'sensor="gpu"')), NAME)],
            unit="celsius",
            limit=GPU_TEMPERATURE,
            overrides=CARDS,
            no_value=NO_GPU,
        ),
        timeseries(
            203,
            "Clocks",
            "On average over the cards; a fall under load is throttling.",
            [Query(aggregate("avg", _card("clock_hertz"), "clock"), "{{clock}}")],
            unit="hertz",
            overrides=color_by_name(CLOCKS),
            no_value=NO_GPU,
        ),
    ]


def _health() -> list[Panel]:
    troubles = value_map({0: ("free", "green"), 1: ("held back", "orange")})
    remap = value_map({0: ("no", "green"), 1: ("yes", "red")})
    held = _named(aggregate("max", _card("throttle_active", TROUBLES), *CARD))
    return [
        state_timeline(
            301,
            "Held back by heat or power",
            f"Not by the power limit, which is how a busy card runs. {alerted('GPUThrottled')}",
            [Query(held, NAME)],
            mappings=troubles,
            no_value=NO_GPU,
        ),
        timeseries(
            302,
            "What holds the clocks down",
            "Share of the time, on average over the cards, by reason.",
            [Query(aggregate("avg", rate(f"{GPU}throttle_seconds_total", SERVICE), "reason") + " > 0", "{{reason}}")],
            unit="percentunit",
            width=12,
            soft_high=0.1,
            no_value="No GPU here, or nothing holds its clocks down",
        ),
        table(
            303,
            "Cards",
            f"What only a person can mend. {alerted('GPUEccUncorrected', 'GPURowRemapFailure', 'GPURecoveryNeeded')}",
            [
                Query(f"{aggregate('max', _card('info'), 'uuid', 'index', 'name', 'driver_version')}"),
                Query(total(_card("ecc_errors_total", 'type="uncorrected"', 'scope="volatile"'), "uuid")),
                Query(total(_card("remapped_rows"), "uuid")),
                Query(aggregate("max", _card("row_remap_pending"), "uuid")),
                Query(aggregate("max", _card("row_remap_failure"), "uuid")),
                Query(aggregate("max", _card("recovery_action"), "uuid")),
            ],
            [
                Column("index", "Card", width=60),
                Column("name", "Name", width=150),
                Column("driver_version", "Driver", width=110),
                Column(
                    "Value #B", "Uncorrected ECC", unit="none", limit=Limit("GPUEccUncorrected", critical=1), width=150
                ),
                Column("Value #C", "Remapped rows", unit="none", width=140),
                Column("Value #D", "Row waits for a reset", mappings=remap, width=190),
                Column("Value #E", "Row cannot be remapped", mappings=remap, width=210),
                Column("Value #F", "Driver asks for", mappings=ASKED_FOR),
            ],
            width=24,
            height=6,
            no_value=NO_GPU,
            sort=("Card", False),
            hide=("Value #A", "uuid"),
        ),
        timeseries(
            304,
            "ECC errors",
            "Memory errors per second, by kind; corrected ones did no harm.",
            [Query(total(rate(f"{GPU}ecc_errors_total", SERVICE, 'scope="volatile"'), "type"), "{{type}}")],
            unit="ops",
            soft_high=0.1,
            overrides=color_by_name({"corrected": "blue", "uncorrected": "red"}),
            no_value="No GPU here, or no ECC",
        ),
        timeseries(
            305,
            "XID errors by number",
            f"What the driver reported, in each minute. {alerted('GPUXidError')}",
            [Query(total(increase(f"{GPU}xid_errors_total", SERVICE, window="$__interval"), "xid"), "XID {{xid}}")],
            unit="short",
            bars=True,
            interval="1m",
            soft_high=1,
            no_value="No GPU here, or no XID error",
        ),
        timeseries(
            306,
            "PCI Express resent",
            "Packets per second that had to be sent again.",
            [Query(_named(rate(f"{GPU}pcie_replay_total", SERVICE)), NAME)],
            unit="suffix:packets/s",
            soft_high=0.1,
            overrides=CARDS,
            no_value=NO_GPU,
        ),
    ]


def _links() -> list[Panel]:
    return [
        timeseries(
            401,
            "NVLink",
            f"Bytes per second of each card, sent and received, all its links. "
            f"{alerted('GPUNvlinkDown', 'GPUNvlinkErrors')}",
            [
                Query(
                    _named(
                        f"({total(rate(f'{GPU}nvlink_transmit_bytes_total', SERVICE), *CARD)}"
                        f" + {total(rate(f'{GPU}nvlink_receive_bytes_total', SERVICE), *CARD)})"
                    ),
                    NAME,
                )
            ],
            unit="Bps",
            overrides=CARDS,
            no_value="No GPU here, or no NVLink",
        ),
        timeseries(
            402,
            "PCI Express",
            "Lanes in use, and their generation, of the card that has least: a fall is a bad seat or a bad slot.",
            [
                Query(aggregate("min", _card("pcie_link_width")), "lanes"),
                Query(aggregate("min", _card("pcie_link_generation")), "generation"),
            ],
            unit="short",
            decimals=0,
            stepped=True,
            overrides=color_by_name({"lanes": "blue", "generation": "purple"}),
            no_value=NO_GPU,
        ),
        timeseries(
            403,
            "MIG: memory in use",
            "Share of each instance that a card is divided into.",
            [
                Query(
                    ratio(_card("mig_memory_used_bytes"), _card("mig_memory_total_bytes")),
                    "{{uuid}} {{gpu_instance_id}}",
                )
            ],
            unit="percentunit",
            high=1,
            single=True,
            no_value="No GPU here, or none is divided (MIG)",
        ),
    ]
