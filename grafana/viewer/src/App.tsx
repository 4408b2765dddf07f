import { createTheme, rangeUtil, ThemeContext, type TimeRange } from '@grafana/data';
import { Alert, GlobalStyles, PortalContainer } from '@grafana/ui';
import { useCallback, useEffect, useMemo, useState } from 'react';
import { Dashboard } from './Dashboard';
import { ALL, interpolate, type Chosen } from './data/interpolate';
import { stepFor } from './data/interval';
import { listDashboards, loadDashboard, type Dashboard as Model, type DashboardSummary } from './data/model';
import type { Scope } from './data/panelData';
import { labelValues } from './data/prometheus';
import { useInterval } from './state/hooks';
import { isMoving, rangeOf, textsOf } from './state/time';
import { hrefOf, usePlace } from './state/url';
import { absolute, Toolbar } from './Toolbar';

const FIRST = 'llmvitals-overview';
const THEME_KEY = 'llmvitals.theme';
const LABEL_VALUES = /^label_values\((.+),\s*(\w+)\)$/;

export function App() {
  const [place, go] = usePlace();
  const [dashboards, setDashboards] = useState<DashboardSummary[]>([]);
  const [model, setModel] = useState<Model>();
  const [problem, setProblem] = useState<string>();
  const [tick, setTick] = useState(0);
  const refreshNow = useCallback(() => setTick((n) => n + 1), []);

  useEffect(() => {
    listDashboards().then(setDashboards, (error: Error) => setProblem(error.message));
  }, []);

  const uid = place.uid || (dashboards.some((d) => d.uid === FIRST) ? FIRST : (dashboards[0]?.uid ?? ''));
  useEffect(() => {
    if (!uid) {
      return;
    }
    setProblem(undefined);
    loadDashboard(uid).then(setModel, (error: Error) => {
      setModel(undefined);
      setProblem(error.message);
    });
  }, [uid]);

  const timeZone = place.timezone ?? 'browser';
  const from = place.from ?? model?.time?.from ?? 'now-30m';
  const to = place.to ?? model?.time?.to ?? 'now';
  const refresh = place.refresh ?? model?.refresh ?? '';
  // `tick` is the clock: a moving range is worked out anew at every refresh.
  const range = useMemo(() => rangeOf(from, to, timeZone), [from, to, timeZone, tick]);
  useInterval(refreshNow, refresh && isMoving(from, to) ? rangeUtil.intervalToSeconds(refresh) : 0);

  const { chosen, options, ready } = useVariables(model, place.chosen, range, setProblem);
  const scope = useMemo<Scope | null>(
    () => (model && ready ? { variables: queryVariables(model), chosen, range } : null),
    [model, ready, chosen, range],
  );

  const dark = (place.theme ?? localStorage.getItem(THEME_KEY) ?? 'dark') === 'dark';
  const theme = useMemo(() => createTheme({ colors: { mode: dark ? 'dark' : 'light' } }), [dark]);
  const setRange = useCallback((next: TimeRange) => go(textsOf(next)), [go]);
  const onZoom = useCallback((a: number, b: number) => setRange(absolute(a, b)), [setRange]);
  useEffect(() => {
    document.title = model ? `${model.title}` : 'llmvitals';
  }, [model]);

  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div className="app" style={{ background: theme.colors.background.canvas, color: theme.colors.text.primary }}>
        <Toolbar
          dashboards={dashboards}
          uid={uid}
          hrefOfDashboard={(other) => hrefOf({ ...place, uid: other, chosen: {} })}
          onDashboard={(other) => go({ uid: other, chosen: {} })}
          variables={model ? queryVariables(model).filter((v) => v.hide !== 2) : []}
          options={options}
          chosen={chosen}
          onChoose={(name, values) => go({ uid, chosen: { ...place.chosen, [name]: values } })}
          range={range}
          timeZone={timeZone}
          onRange={setRange}
          onTimeZone={(timezone) => go({ timezone })}
          refresh={refresh}
          onRefresh={refreshNow}
          onRefreshInterval={(interval) => go({ refresh: interval })}
          dark={dark}
          onTheme={() => {
            localStorage.setItem(THEME_KEY, dark ? 'light' : 'dark');
            go({ theme: dark ? 'light' : 'dark' });
          }}
        />
        {problem && (
          <Alert title="This page cannot be drawn" severity="error">
            {problem}
          </Alert>
        )}
        {model && <Dashboard key={model.uid} model={model} scope={scope} timeZone={timeZone} onZoom={onZoom} />}
      </div>
      <PortalContainer />
    </ThemeContext.Provider>
  );
}

function queryVariables(model: Model) {
  return (model.templating?.list ?? []).filter((v) => v.type === 'query');
}

interface Variables {
  chosen: Chosen;
  options: Record<string, string[]>;
  ready: boolean;
}

/** The dropdowns' options, asked one after the other because a later one may depend on an earlier. */
function useVariables(
  model: Model | undefined,
  fromPlace: Chosen,
  range: TimeRange,
  onProblem: (problem: string) => void,
): Variables {
  const [options, setOptions] = useState<Record<string, string[]>>({});
  const key = JSON.stringify(fromPlace);
  const chosen = useMemo(() => {
    const asked = JSON.parse(key) as Chosen;
    const names = model ? queryVariables(model).map((v) => v.name) : [];
    return Object.fromEntries(names.map((name) => [name, asked[name]?.length ? asked[name] : [ALL]]));
  }, [model, key]);

  useEffect(() => {
    if (!model) {
      return undefined;
    }
    const abort = new AbortController();
    const load = async () => {
      const variables = queryVariables(model);
      const found: Record<string, string[]> = {};
      for (const variable of variables) {
        const [, series, label] = LABEL_VALUES.exec(variable.definition ?? '') ?? [];
        if (series && label) {
          const query = interpolate(series, variables, chosen, stepFor(range, 100));
          found[variable.name] = await labelValues(label, query, abort.signal);
        }
      }
      setOptions(found);
    };
    load().catch((error: Error) => {
      if (!abort.signal.aborted) {
        onProblem(`The choices of the variables cannot be had: ${error.message}`);
      }
    });
    return () => abort.abort();
  }, [model, chosen, range]);

  return { chosen, options, ready: model !== undefined };
}
