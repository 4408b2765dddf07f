import { rangeUtil, type TimeRange } from '@grafana/data';
import datasource from '../../../provisioning/datasources/prometheus.yml?raw';

// One source for Grafana and for the viewer: the slowest scrape, from which $__rate_interval is made.
export const SCRAPE_SECONDS = rangeUtil.intervalToSeconds(/timeInterval:\s*(\w+)/.exec(datasource)?.[1] ?? '15s');

// Prometheus refuses more points than this for one series.
const MOST_POINTS = 11_000;

export interface Step {
  seconds: number;
  start: number;
  end: number;
  rateSeconds: number;
  rangeSeconds: number;
}

/** How Grafana asks for *points* pixels of *range*: a round step, and both ends on a multiple of it. */
export function stepFor(range: TimeRange, points: number, minInterval?: string): Step {
  const from = range.from.valueOf();
  const to = range.to.valueOf();
  const lowest = Math.max(SCRAPE_SECONDS, minInterval ? rangeUtil.intervalToSeconds(minInterval) : 0);
  const rounded = rangeUtil.roundInterval((to - from) / Math.max(points, 10)) / 1000;
  const seconds = Math.max(rounded, lowest, Math.ceil((to - from) / 1000 / MOST_POINTS));
  return {
    seconds,
    start: Math.floor(from / 1000 / seconds) * seconds,
    end: Math.floor(to / 1000 / seconds) * seconds,
    rateSeconds: Math.max(seconds + SCRAPE_SECONDS, 4 * SCRAPE_SECONDS),
    rangeSeconds: Math.max(1, Math.round((to - from) / 1000)),
  };
}
