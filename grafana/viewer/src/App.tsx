import { createTheme, rangeUtil, ThemeContext, type TimeRange } from '@grafana/data';
import { Alert, GlobalStyles, PortalContainer } from '@grafana/ui';
import { useCallback, useEffect, useMemo, useState } from 'react';
import { Dashboard } from './Dashboard';
import { DashboardMenu, shortTitle } from './DashboardMenu';
import { hrefOfDashboard, linksOf, type Here } from './data/links';
import { listDashboards, loadDashboard, type Annotation, type Dashboard as Model, type DashboardSummary } from './data/model';
import type { Scope } from './data/panelData';
import { isShown, useVariables, variablesOf } from './data/variables';
import { PALETTE } from './panels/palette';
import { useInterval } from './state/hooks';
import { isMoving, rangeOf, textsOf } from './state/time';
import { readPlace, usePlace } from './state/url';
import { absolute, Toolbar } from './Toolbar';
import { Variables } from './Variables';

const FIRST = 'llmvitals-overview';
const THEME_KEY = 'llmvitals.theme';
const NONE: Annotation[] = [];

export function App() {
  const [place, go] = usePlace();
  const [dashboards, setDashboards] = useState<DashboardSummary[]>([]);
  const [problem, setProblem] = useState<string>();
  const [tick, setTick] = useState(0);
  const refreshNow = useCallback(() => setTick((n) => n + 1), []);

  useEffect(() => {
    listDashboards().then(setDashboards, (error: Error) => setProblem(error.message));
  }, []);
  const uid = place.uid || (dashboards.some((d) => d.uid === FIRST) ? FIRST : (dashboards[0]?.uid ?? ''));
  const model = useModel(uid, setProblem);

  const timeZone = place.timezone ?? 'browser';
  const from = place.from ?? model?.time?.from ?? 'now-30m';
  const to = place.to ?? model?.time?.to ?? 'now';
  const refresh = place.refresh ?? model?.refresh ?? '';
  // `tick` is the clock: a moving range is worked out anew at every refresh.
  const range = useMemo(() => rangeOf(from, to, timeZone), [from, to, timeZone, tick]);
  useInterval(refreshNow, refresh && isMoving(from, to) ? rangeUtil.intervalToSeconds(refresh) : 0);

  const { chosen, options, ready } = useVariables(model, place.chosen, range, setProblem);
  const variables = useMemo(() => (model ? variablesOf(model) : []), [model]);
  const scope = useMemo<Scope | null>(
    () => (model && ready ? { variables, chosen, range } : null),
    [model, ready, variables, chosen, range],
  );
  const here = useMemo<Here>(() => ({ place, from, to, variables, chosen }), [place, from, to, variables, chosen]);
  const { annotations, hidden, toggle } = useAnnotations(model);
  const marked = useMemo(() => annotations.filter(({ name }) => !hidden.has(name)), [annotations, hidden]);

  const dark = (place.theme ?? localStorage.getItem(THEME_KEY) ?? 'dark') === 'dark';
  const theme = useMemo(
    () => createTheme({ colors: { mode: dark ? 'dark' : 'light' }, visualization: { palette: PALETTE } }),
    [dark],
  );
  const setRange = useCallback((next: TimeRange) => go(textsOf(next)), [go]);
  const onZoom = useCallback((a: number, b: number) => setRange(absolute(a, b)), [setRange]);
  const onAlone = useCallback((id: number | undefined) => go({ viewPanel: id }), [go]);
  useEffect(() => {
    document.title = model ? `${model.title}` : 'llmvitals';
  }, [model]);
  useEffect(() => {
    document.documentElement.style.colorScheme = dark ? 'dark' : 'light';
  }, [dark]);

  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div
        className={dark ? 'app dark' : 'app light'}
        style={{ background: theme.colors.background.canvas, color: theme.colors.text.primary }}
      >
        <Toolbar
          title={
            <DashboardMenu
              title={model ? shortTitle(model.title) : ''}
              uid={uid}
              dashboards={dashboards}
              hrefOf={(summary) => hrefOfDashboard(summary, model?.links ?? [], here)}
              onGo={(href) => go({ viewPanel: undefined, ...readPlace(new URL(href, window.location.href)) })}
            />
          }
          choices={
            <Variables
              variables={variables.filter(isShown)}
              options={options}
              chosen={chosen}
              onChoose={(name, values) => go({ uid, chosen: { ...place.chosen, [name]: values } })}
              annotations={annotations}
              hidden={hidden}
              onAnnotation={toggle}
              links={linksOf(model?.links ?? [], here)}
            />
          }
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
        {model && (
          <Dashboard
            key={model.uid}
            model={model}
            scope={scope}
            here={here}
            annotations={marked}
            timeZone={timeZone}
            onZoom={onZoom}
            onAlone={onAlone}
          />
        )}
      </div>
      <PortalContainer />
    </ThemeContext.Provider>
  );
}

/** The dashboard that the address names; none while another one is still on its way. */
function useModel(uid: string, onProblem: (problem: string | undefined) => void): Model | undefined {
  const [model, setModel] = useState<Model>();
  useEffect(() => {
    if (!uid) {
      return undefined;
    }
    let wanted = true;
    onProblem(undefined);
    loadDashboard(uid).then(
      (loaded) => wanted && setModel(loaded),
      (error: Error) => {
        if (wanted) {
          setModel(undefined);
          onProblem(error.message);
        }
      },
    );
    return () => {
      wanted = false;
    };
  }, [uid, onProblem]);
  return model?.uid === uid ? model : undefined;
}

/** The annotations that Prometheus answers, and which of them are switched off. */
function useAnnotations(model: Model | undefined) {
  const annotations = useMemo(() => (model?.annotations?.list ?? NONE).filter((a) => !a.hide && a.target?.expr), [model]);
  const [flipped, setFlipped] = useState<ReadonlySet<string>>(new Set());
  const hidden = useMemo(
    () => new Set(annotations.filter(({ name, enable }) => enable === flipped.has(name)).map(({ name }) => name)),
    [annotations, flipped],
  );
  const toggle = (name: string) => {
    setFlipped((before) => new Set(before.has(name) ? [...before].filter((n) => n !== name) : [...before, name]));
  };
  return { annotations, hidden, toggle };
}
