import { dateTime, rangeUtil, type RawTimeRange, type TimeRange } from '@grafana/data';

// Epoch milliseconds stand in links; as text they would be taken for a date of the year 17000-odd, or for none.
function parse(text: string): RawTimeRange['from'] {
  return /^\d+$/.test(text) ? dateTime(Number(text)) : text;
}

/** "now-30m" or epoch milliseconds, at this moment. */
export function rangeOf(from: string, to: string, timeZone: string): TimeRange {
  return rangeUtil.convertRawToRange({ from: parse(from), to: parse(to) }, timeZone);
}

/** The two texts for the address. */
export function textsOf(range: TimeRange): { from: string; to: string } {
  const text = (raw: RawTimeRange['from']) => (typeof raw === 'string' ? raw : String(raw.valueOf()));
  return { from: text(range.raw.from), to: text(range.raw.to) };
}

export function isMoving(from: string, to: string): boolean {
  return from.includes('now') || to.includes('now');
}
