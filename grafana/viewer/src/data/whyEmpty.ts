import type { TimeRange } from '@grafana/data';
import { queryNow } from './prometheus';

const WORDS = new Set(
  'and or unless by without on ignoring group_left group_right offset bool inf nan atan2 start end'.split(' '),
);

/** The names of metrics in an expression: what is no label, string, function or word of PromQL. */
export function metricNames(expr: string): string[] {
  const bare = expr
    .replace(/"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'/g, '""')
    .replace(/\{[^}]*\}/g, ' ')
    .replace(/\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g, ' ')
    .replace(/\[[^\]]*\]/g, ' ')
    .replace(/\b(?:0x[0-9a-f]+|\d+(?:\.\d+)?(?:e[-+]?\d+)?(?:ms|[smhdwy])?)+\b/gi, ' ');
  const found = [...bare.matchAll(/[a-zA-Z_:][a-zA-Z0-9_:]*(?!\s*\(|[a-zA-Z0-9_:])/g)].map(([name]) => name);
  return [...new Set(found)].filter((name) => !WORDS.has(name.toLowerCase()));
}

/** Why a panel shows nothing: does nobody emit its metrics, was there nothing at that time, or did nothing match? */
export async function whyEmpty(asked: string[], range: TimeRange, signal: AbortSignal): Promise<string> {
  const names = [...new Set(asked.flatMap(metricNames))];
  if (names.length === 0) {
    return 'The query matched nothing.';
  }
  // Prometheus writes this one itself, and only while there is an alert.
  if (names.every((name) => name === 'ALERTS')) {
    return 'No alert was pending or firing.';
  }
  const any = `{__name__=~"${names.join('|')}"}`;
  const seconds = Math.max(1, Math.round((range.to.valueOf() - range.from.valueOf()) / 1000));
  const there = await namesIn(`count by (__name__) (last_over_time(${any}[${seconds}s]))`, range.to.valueOf(), signal);
  if (names.some((name) => there.has(name))) {
    const missing = names.filter((name) => !there.has(name));
    return missing.length > 0
      ? `Nothing emits ${missing.join(', ')} in this time; without it the query matches nothing.`
      : 'The metrics are there; nothing matches this choice of variables and time.';
  }
  const now = await namesIn(`count by (__name__) (${any})`, Date.now(), signal);
  return now.size > 0
    ? `${[...now].join(', ')} is scraped now, but has no samples in this time range.`
    : `Nothing that is scraped emits ${names.join(', ')} yet.`;
}

async function namesIn(query: string, at: number, signal: AbortSignal): Promise<Set<string>> {
  const found = await queryNow(query, at / 1000, signal);
  return new Set(found.flatMap(({ metric }) => metric.__name__ ?? []));
}
