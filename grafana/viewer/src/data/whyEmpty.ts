import { queryNow } from './prometheus';

const NAME = /([a-zA-Z_:][a-zA-Z0-9_:]*)\{/g;

/** Why a panel shows nothing: does nobody emit its metrics, or did nothing match? */
export async function whyEmpty(asked: string[], signal: AbortSignal): Promise<string> {
  const names = [...new Set(asked.flatMap((query) => [...query.matchAll(NAME)].map((m) => m[1] ?? '')))];
  if (names.length === 0) {
    return 'The query matched nothing.';
  }
  const found = await queryNow(`count by (__name__) ({__name__=~"${names.join('|')}"})`, Date.now() / 1000, signal);
  const there = new Set(found.map(({ metric }) => metric.__name__));
  const missing = names.filter((name) => !there.has(name));
  if (missing.length === names.length) {
    return `Nothing that is scraped now emits ${missing.join(', ')}.`;
  }
  return 'The metrics are there; nothing matched the choice of variables and time.';
}
