import type { Step } from './interval';
import type { Variable } from './model';

export const ALL = '$__all';

export type Chosen = Record<string, string[]>;

// Twice escaped: once for the regular expression, once for the string of PromQL that holds it.
function escapeForRegex(value: string): string {
  return value.replace(/\\/g, '\\\\\\\\').replace(/[$^*{}[\]'+?.()|]/g, '\\\\$&').replace(/"/g, '\\"');
}

function escapeForString(value: string): string {
  return value.replace(/\\/g, '\\\\').replace(/"/g, '\\"');
}

/** What stands for *variable* in an expression: its "All" as written, one value, or a choice of several. */
export function valueOf(variable: Variable, chosen: string[], format?: string): string {
  if (chosen.length === 0 || chosen.includes(ALL)) {
    return variable.allValue ?? '.*';
  }
  if (format === 'raw' || format === 'csv' || format === 'text') {
    return chosen.join(',');
  }
  // The text of the file's author, not of whoever looks at the page.
  if (variable.type === 'constant' || variable.type === 'interval') {
    return chosen[0] ?? '';
  }
  // What can only be one value stands behind "=" as well as behind "=~".
  if (!variable.multi && !variable.includeAll && format !== 'regex') {
    return escapeForString(chosen[0] ?? '');
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
    ['__rate_interval_ms', String(step.rateSeconds * 1000)],
    ['__range', `${step.rangeSeconds}s`],
    ['__range_s', String(step.rangeSeconds)],
    ['__range_ms', String(step.rangeSeconds * 1000)],
  ]);
  const byName = new Map(variables.map((variable) => [variable.name, variable]));
  return expr.replace(/\$(?:(\w+)|\{(\w+)(?::(\w+))?\})/g, (whole, bare: string, braced: string, format?: string) => {
    const variable = byName.get(bare ?? braced);
    return variable ? valueOf(variable, chosen[variable.name] ?? [], format) : (values.get(bare ?? braced) ?? whole);
  });
}

/** *text* for people: the chosen values by name, "All" where all are meant. */
export function inWords(text: string, chosen: Chosen): string {
  return text.replace(/\$(?:(\w+)|\{(\w+)(?::\w+)?\})/g, (whole, bare: string, braced: string) => {
    const values = chosen[bare ?? braced];
    return values === undefined ? whole : values.includes(ALL) ? 'All' : values.join(' + ');
  });
}
