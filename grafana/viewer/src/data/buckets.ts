import type { DataFrame } from '@grafana/data';
import { FieldType } from '@grafana/data';

/** What fell between two bounds, over time. */
export interface Bucket {
  low: number;
  high: number;
  // The count at each of the times, null where there is no sample.
  counts: Array<number | null>;
}

export interface Heat {
  times: number[];
  step: number;
  // From the lowest bound to the highest.
  buckets: Bucket[];
  most: number;
}

/**
 * Buckets from the series of a classic histogram: one a `le`, each counting all below it too. So each is made less
 * by the one under it. A difference below zero comes from rounding, or from buckets that were scraped apart.
 */
export function heatOf(frames: DataFrame[]): Heat {
  const byBound = new Map<number, Map<number, number>>();
  let step = 0;
  for (const frame of frames) {
    const time = frame.fields.find((f) => f.type === FieldType.time);
    const value = frame.fields.find((f) => f.type === FieldType.number);
    const bound = boundOf(value?.labels?.le ?? value?.config.displayNameFromDS ?? '');
    if (!time || !value || Number.isNaN(bound)) {
      continue;
    }
    step = time.config.interval ?? step;
    const counts = byBound.get(bound) ?? new Map<number, number>();
    time.values.forEach((at: number, i: number) => {
      const count: unknown = value.values[i];
      if (typeof count === 'number') {
        counts.set(at, (counts.get(at) ?? 0) + count);
      }
    });
    byBound.set(bound, counts);
  }
  const bounds = [...byBound.keys()].sort((a, b) => a - b);
  const times = [...new Set([...byBound.values()].flatMap((counts) => [...counts.keys()]))].sort((a, b) => a - b);
  let most = 0;
  const buckets = bounds.map((high, i) => {
    const low = bounds[i - 1] ?? 0;
    const counts = times.map((at) => {
      const all = byBound.get(high)?.get(at);
      if (all === undefined) {
        return null;
      }
      const below = i === 0 ? 0 : (byBound.get(low)?.get(at) ?? 0);
      const count = Math.max(0, all - below);
      most = Math.max(most, count);
      return count;
    });
    return { low, high, counts };
  });
  return { times, step, buckets: trimmed(buckets), most };
}

function boundOf(text: string): number {
  return text === '+Inf' ? Number.POSITIVE_INFINITY : text === '' ? Number.NaN : Number(text);
}

/** Without the empty buckets at either end: they would leave a thin strip for what there is. */
function trimmed(buckets: Bucket[]): Bucket[] {
  const used = buckets.map(({ counts }) => counts.some((count) => (count ?? 0) > 0));
  const [first, last] = [used.indexOf(true), used.lastIndexOf(true)];
  return first < 0 ? buckets : buckets.slice(Math.max(0, first - 1), last + 2);
}
