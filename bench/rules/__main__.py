"""What the rules and the overview cost a Prometheus that watches a thousand instances.

    python -m bench.rules [--instances 1000] [--minutes 30] [--quick] [--as-shipped] [--dashboard UID ...] [--all]

Applications that are not there are scraped each 15 s, 400 series each; all rules of prometheus/rules run; a day of what
they record for each service is back-filled. Then each panel of the overview is asked for that day, as by a browser. Two
budgets: every rule group's p95 within 25 % of its interval, and every panel's p95 within 300 ms.

Groups that the demo evaluates each 2, 5 or 10 s are evaluated each 15 s here, for their data comes no sooner;
--as-shipped leaves them as they are. Prometheus has two cores. --quick: 50 instances and 3 minutes, for the magnitudes.
--dashboard, --all: other dashboards' panels, too, three times each; they have no budget, and those above 1 s are told.
Times are what a person waits, on a busy machine above all for the others: "chrt -r 1 python -m bench.rules" goes first.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.rules.backfill import HOURS, backfill, step
from bench.rules.instances import SERIES
from bench.rules.measure import DASHBOARDS, OVERVIEW, Groups, panels
from bench.rules.prometheus import (
    SCRAPE_SECONDS,
    WARM_SECONDS,
    Prometheus,
    configure,
    instances,
    progress,
    recorded,
    wait,
)

SHARE_OF_INTERVAL = 0.25
PANEL_SECONDS = 0.3
# Of the other dashboards, which have no budget.
SLOW_SECONDS = 1.0


def run(folder: Path, count: int, seconds: float, rounds: int, others: Sequence[str], *, as_shipped: bool) -> bool:
    prometheus = Prometheus(folder)
    with instances() as port:
        configure(folder, port, count, as_shipped=as_shipped)
        try:
            progress(f"{count} instances x {SERIES} series; {WARM_SECONDS} s until the rules have recorded something")
            prometheus.start()
            wait(WARM_SECONDS, "warming up")
            series = recorded(prometheus)
            begun = time.time() - WARM_SECONDS - 60
            prometheus.stop()
            print(f"back-filled: {len(series):,} recorded series, {HOURS} h, a sample each {step(len(series))} s")
            samples = backfill(prometheus.data, folder, series, begun, progress)
            progress(f"back-filled {samples:,} samples")
            prometheus.start()
            groups = _raw(prometheus, seconds)
            scraped, firing = (prometheus.value(q) for q in ("sum(scrape_samples_scraped)", "count(ALERTS)"))
            print(f"{scraped:,.0f} series scraped, {firing:,.0f} alerts, {prometheus.resident_mb():,.0f} MB resident")
            kept = _tell_groups(groups)
            kept &= _tell_panels(prometheus, rounds)
            for uid in others:
                _tell_slow(prometheus, uid)
            return kept
        finally:
            prometheus.stop()


def _raw(prometheus: Prometheus, seconds: float) -> Groups:
    """Scrapes and evaluates for *seconds*; the groups as they were in the last two thirds."""
    groups = Groups()
    begun, cpu = time.monotonic(), prometheus.cpu_seconds()
    while (elapsed := time.monotonic() - begun) < seconds:
        progress(f"raw samples: {elapsed / 60:.1f} of {seconds / 60:.1f} min")
        time.sleep(min(SCRAPE_SECONDS, seconds - elapsed))
        if time.monotonic() - begun > seconds / 3:
            groups.look(prometheus.ask("rules")["groups"])
    used = (prometheus.cpu_seconds() - cpu) / (time.monotonic() - begun)
    print(f"Prometheus used {used:.2f} cores to scrape and to evaluate")
    return groups


def _tell_groups(groups: Groups) -> bool:
    print(f"\n{'rule group':34} {'interval':>8} {'p95':>9} {'max':>9} {'share':>7}")
    kept = True
    for group in groups.slowest():
        share = group.p95 / group.interval
        kept &= share <= SHARE_OF_INTERVAL
        verdict = _word(share <= SHARE_OF_INTERVAL)
        times = f"{group.p95 * 1e3:6.0f} ms {max(group.seconds) * 1e3:6.0f} ms"
        print(f"{group.name:34} {group.interval:6.0f} s {times} {share:7.1%} {verdict}")
    print(f"budget: every rule group's p95 within {SHARE_OF_INTERVAL:.0%} of its interval: {_word(kept)}")
    return kept


def _tell_panels(prometheus: Prometheus, rounds: int) -> bool:
    print(f"\n{'panel of the overview, over 24 h':34} {'p50':>9} {'p95':>9}")
    kept = True
    found = panels(prometheus.ask, OVERVIEW, HOURS, scrape_seconds=SCRAPE_SECONDS, rounds=rounds, progress=progress)
    for panel in sorted(found, key=lambda panel: -panel.p95):
        kept &= panel.p95 <= PANEL_SECONDS
        verdict = _word(panel.p95 <= PANEL_SECONDS)
        times = f"{panel.p50 * 1e3:6.0f} ms {panel.p95 * 1e3:6.0f} ms"
        print(f"{panel.title[:34]:34} {times} {verdict}{'' if panel.series else ' (no data)'}")
    print(f"budget: every panel's p95 within {PANEL_SECONDS * 1e3:.0f} ms: {_word(kept)}")
    return kept


def _tell_slow(prometheus: Prometheus, uid: str) -> None:
    """What is above a second is told, and how much was asked for; it has no budget."""
    found = panels(prometheus.ask, uid, HOURS, scrape_seconds=SCRAPE_SECONDS, rounds=3, progress=progress)
    slow = sorted((panel for panel in found if panel.p50 > SLOW_SECONDS), key=lambda panel: -panel.p50)
    raw = sum(panel.raw for panel in found)
    print(
        f"\n{uid}: {len(found)} panels, {raw} of them read raw series; above {SLOW_SECONDS:g} s: {len(slow) or 'none'}"
    )
    for panel in slow:
        print(
            f"{panel.title[:34]:34} {panel.p50 * 1e3:6.0f} ms, {panel.series:,} series{' (raw)' if panel.raw else ''}"
        )


def _word(kept: bool) -> str:
    return "pass" if kept else "FAIL"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=None, help="default: 1000, with --quick 50")
    parser.add_argument("--minutes", type=float, default=None, help="of raw samples; default: 30, with --quick 3")
    parser.add_argument("--quick", action="store_true", help="for the magnitudes")
    parser.add_argument("--as-shipped", action="store_true", help="leave the groups' intervals of 2 and 5 s")
    known = sorted(path.stem for path in DASHBOARDS.glob("*.json") if path.stem != OVERVIEW)
    parser.add_argument("--dashboard", action="append", default=[], choices=known, metavar="UID", help="this one, too")
    parser.add_argument("--all", action="store_true", help="all dashboards, too")
    options = parser.parse_args()
    count = options.instances or (50 if options.quick else 1000)
    minutes = options.minutes or (3 if options.quick else 30)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    load = os.getloadavg()[0]
    print(f"{count} instances, {minutes:g} min raw, {os.cpu_count()} cores, load {load:.1f} before")
    with tempfile.TemporaryDirectory(prefix="llmvitals-bench-rules-") as folder:
        try:
            others = known if options.all else options.dashboard
            rounds = 10 if options.quick else 20
            kept = run(Path(folder), count, minutes * 60, rounds, others, as_shipped=options.as_shipped)
        except KeyboardInterrupt:
            progress("stopped; nothing is left")
            return 130
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
