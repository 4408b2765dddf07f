import type { TimeRange } from '@grafana/data';
import { useEffect, useMemo, useState } from 'react';
import { ALL, interpolate, type Chosen } from './interpolate';
import { stepFor } from './interval';
import type { Dashboard, Variable } from './model';
import { labelValues } from './prometheus';

const LABEL_VALUES = /^label_values\((?:(.+),)?\s*(\w+)\s*\)$/s;
const KINDS = new Set(['query', 'custom', 'interval', 'constant', 'textbox']);
// Grafana's number for "not to be seen".
const HIDDEN = 2;

/** The variables that an expression may name. A choice of the data source is none: here is one. */
export function variablesOf(model: Dashboard): Variable[] {
  return (model.templating?.list ?? []).filter(({ type }) => KINDS.has(type));
}

export function isShown({ hide, type }: Variable): boolean {
  return hide !== HIDDEN && type !== 'constant';
}

function listed(variable: Variable): string[] {
  const text = typeof variable.query === 'string' ? variable.query : '';
  if (variable.type === 'custom' || variable.type === 'interval') {
    return text.split(',').map((part) => part.trim()).filter((part) => part && part !== 'auto');
  }
  return text ? [text] : [];
}

/** What is chosen where the address says nothing: what the file says, "All", or the first there is. */
function initial(variable: Variable, options: string[]): string[] {
  const written = [variable.current?.value ?? []].flat().filter((value) => value !== '');
  if (written.length > 0 && !written.includes(ALL)) {
    return written;
  }
  return variable.includeAll ? [ALL] : options.slice(0, 1);
}

interface Variables {
  chosen: Chosen;
  options: Record<string, string[]>;
  ready: boolean;
}

/** The dropdowns' options, asked one after the other because a later one may depend on an earlier. */
export function useVariables(
  model: Dashboard | undefined,
  fromPlace: Chosen,
  range: TimeRange,
  onProblem: (problem: string) => void,
): Variables {
  const [found, setFound] = useState<{ model: Dashboard; options: Record<string, string[]> }>();
  const options = useMemo(() => (found && found.model === model ? found.options : {}), [found, model]);
  const variables = useMemo(() => (model ? variablesOf(model) : []), [model]);
  const all = chosenOf(variables, fromPlace, options);
  const key = JSON.stringify(all);
  const chosen = useMemo(() => JSON.parse(key) as Chosen, [key]);

  useEffect(() => {
    if (!model) {
      return undefined;
    }
    const abort = new AbortController();
    const load = async () => {
      const loaded: Record<string, string[]> = {};
      for (const variable of variables) {
        const [, series, label] = LABEL_VALUES.exec(variable.definition ?? '') ?? [];
        if (variable.type !== 'query') {
          loaded[variable.name] = listed(variable);
        } else if (label) {
          const now = chosenOf(variables, fromPlace, loaded);
          const query = series && interpolate(series, variables, now, stepFor(range, 100));
          loaded[variable.name] = matching(await labelValues(label, query, abort.signal), variable.regex);
        }
      }
      setFound({ model, options: loaded });
    };
    load().catch((error: Error) => {
      if (!abort.signal.aborted) {
        onProblem(`The choices of the variables cannot be had: ${error.message}`);
      }
    });
    return () => abort.abort();
  }, [model, key, range]);

  // Where "All" can be meant, panels need not wait for the list of all.
  const ready = model !== undefined && variables.every(({ name }) => (chosen[name]?.length ?? 0) > 0);
  return { chosen, options, ready };
}

function chosenOf(variables: Variable[], fromPlace: Chosen, options: Record<string, string[]>): Chosen {
  return Object.fromEntries(
    variables.map((variable) => {
      // A constant is the file's: a link that somebody sent must not change where the page leads.
      const asked = variable.type === 'constant' ? [] : (fromPlace[variable.name] ?? []);
      const known = options[variable.name] ?? listed(variable);
      return [variable.name, asked.length > 0 ? asked : initial(variable, known)];
    }),
  );
}

function matching(values: string[], regex = ''): string[] {
  const [, pattern, flags] = /^\/(.*)\/(\w*)$/.exec(regex) ?? [];
  if (!pattern) {
    return values;
  }
  const wanted = new RegExp(pattern, flags);
  const kept = values.flatMap((value) => {
    const found = wanted.exec(value);
    return found ? [found.groups?.value ?? found[1] ?? value] : [];
  });
  return [...new Set(kept)];
}
