import type { Step } from './interval';
import type { Variable } from './model';

export const ALL = '$__all';

export type Chosen = Record<string, string[]>;

// Twice escaped: once for the regular expression, once for the string of PromQL that holds it.
function escapeForRegex(value: string): string {
  return value.replace(/\\/g, '\\\\\\\\').replace(/[$^*{}[\]'+?.()|]/g, '\\\\$&').replace(/"/g, '\\"');
}

/** What stands for *variable* in an expression: its "All" as written, one value, or a choice of several. */
export function valueOf(variable: Variable, chosen: string[]): string {
  if (chosen.length === 0 || chosen.includes(ALL)) {
    return variable.allValue ?? '.*';
  }
  const escaped = chosen.map(escapeForRegex);
  return escaped.length === 1 ? (escaped[0] ?? '') : `(${escaped.join('|')})`;
}

/** *expr* with `$name`, `${name}` and the built-in intervals replaced. */
export function interpolate(expr: string, variables: Variable[], chosen: Chosen, step: Step): string {
  const values = new Map<string, string>([
    ['__interval', `${step.seconds}s`],
    ['__interval_ms', String(step.seconds * 1000)],
    ['__rate_interval', `${step.rateSeconds}s`],
    ['__range', `${step.rangeSeconds}s`],
    ['__range_s', String(step.rangeSeconds)],
  ]);
  for (const variable of variables) {
    values.set(variable.name, valueOf(variable, chosen[variable.name] ?? []));
  }
  return expr.replace(/\$(?:(\w+)|\{(\w+)(?::\w+)?\})/g, (whole, bare: string, braced: string) => {
    return values.get(bare ?? braced) ?? whole;
  });
}
