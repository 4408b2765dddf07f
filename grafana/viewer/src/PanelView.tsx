import { LoadingState, type DataFrame, type TimeRange } from '@grafana/data';
import { ErrorBoundary, PanelChrome, useTheme2 } from '@grafana/ui';
import { useEffect, useMemo, useState, type ComponentType } from 'react';
import { applyConfig, fieldConfigOf } from './data/fieldConfig';
import type { Panel } from './data/model';
import { loadPanel, type Mark, type PanelData, type Scope } from './data/panelData';
import { whyEmpty } from './data/whyEmpty';
import { BarGaugePanel } from './panels/BarGaugePanel';
import { StatPanel } from './panels/StatPanel';
import { TablePanel, tableDefaults } from './panels/TablePanel';
import { TextPanel } from './panels/TextPanel';
import { TimeSeriesPanel, timeSeriesDefaults } from './panels/TimeSeriesPanel';
import type { PanelProps } from './panels/types';

interface Kind {
  component: ComponentType<PanelProps>;
  defaults: object;
}

const kinds: Record<string, Kind> = {
  timeseries: { component: TimeSeriesPanel, defaults: timeSeriesDefaults },
  stat: { component: StatPanel, defaults: {} },
  bargauge: { component: BarGaugePanel, defaults: {} },
  table: { component: TablePanel, defaults: tableDefaults },
  text: { component: TextPanel, defaults: {} },
};

/** What `data-ready` says: tests wait for "true", and nothing else is a drawn panel. */
type Ready = 'loading' | 'true' | 'nodata' | 'error' | 'unsupported';

interface Loaded {
  data?: PanelData;
  error?: string;
  reason?: string;
  // The time that was asked for: a picture never shows old data under a new axis.
  range: TimeRange;
}

export interface PanelViewProps {
  panel: Panel;
  width: number;
  height: number;
  scope: Scope | null;
  timeZone: string;
  marks: Mark[];
  onZoom: (from: number, to: number) => void;
}

export function PanelView({ panel, width, height, scope, timeZone, marks, onZoom }: PanelViewProps) {
  const theme = useTheme2();
  const kind = kinds[panel.type];
  const loaded = useData(panel, width, scope);
  const frames = useMemo(() => {
    const raw = loaded?.data?.frames ?? [];
    return kind ? applyConfig(raw, fieldConfigOf(panel, kind.defaults), panel.type, theme, timeZone) : [];
  }, [loaded, kind, panel, theme, timeZone]);
  const [broken, setBroken] = useState<string>();
  useEffect(() => setBroken(undefined), [frames]);
  const ready = broken === undefined ? readyOf(panel, kind, loaded, frames) : 'error';

  return (
    <div data-panel-id={panel.id} data-panel-type={panel.type} data-ready={ready}>
      <PanelChrome
        title={panel.title}
        description={panel.description}
        width={width}
        height={height}
        padding={panel.type === 'table' ? 'none' : 'md'}
        loadingState={loaded ? LoadingState.Done : LoadingState.Loading}
        statusMessage={loaded?.error ?? broken}
      >
        {(innerWidth, innerHeight) => {
          if (ready === 'true' && kind && loaded) {
            const Component = kind.component;
            return (
              <ErrorBoundary boundaryName={panel.title} errorLogger={console.error} onError={(e) => setBroken(e.message)}>
                {({ error }) =>
                  error ? null : (
                    <Component
                      panel={panel}
                      frames={frames}
                      width={innerWidth}
                      height={innerHeight}
                      range={loaded.range}
                      timeZone={timeZone}
                      marks={marks}
                      onZoom={onZoom}
                    />
                  )
                }
              </ErrorBoundary>
            );
          }
          return <Message ready={ready} panel={panel} loaded={loaded} broken={broken} height={innerHeight} />;
        }}
      </PanelChrome>
    </div>
  );
}

function useData(panel: Panel, width: number, scope: Scope | null): Loaded | undefined {
  const [loaded, setLoaded] = useState<Loaded>();
  useEffect(() => {
    if (!scope || !kinds[panel.type]) {
      return undefined;
    }
    const abort = new AbortController();
    const load = async () => {
      const data = await loadPanel(panel, width, scope, abort.signal);
      const reason = hasData(data.frames) ? undefined : await whyEmpty(data.asked, abort.signal);
      setLoaded({ data, reason, range: scope.range });
    };
    load().catch((error: unknown) => {
      if (!abort.signal.aborted) {
        setLoaded({ error: error instanceof Error ? error.message : String(error), range: scope.range });
      }
    });
    return () => abort.abort();
    // A few pixels more are no reason to ask again: the next refresh does.
  }, [panel, scope]);
  return loaded;
}

function hasData(frames: DataFrame[]): boolean {
  return frames.some((frame) => frame.length > 0);
}

function readyOf(panel: Panel, kind: Kind | undefined, loaded: Loaded | undefined, frames: DataFrame[]): Ready {
  if (!kind) {
    return 'unsupported';
  }
  if (panel.type === 'text') {
    return 'true';
  }
  if (!loaded) {
    return 'loading';
  }
  if (loaded.error !== undefined) {
    return 'error';
  }
  return hasData(frames) ? 'true' : 'nodata';
}

interface MessageProps {
  ready: Ready;
  panel: Panel;
  loaded: Loaded | undefined;
  broken: string | undefined;
  height: number;
}

function Message({ ready, panel, loaded, broken, height }: MessageProps) {
  if (ready === 'loading') {
    return null;
  }
  const said: Partial<Record<Ready, [string, string | undefined]>> = {
    nodata: [panel.fieldConfig?.defaults.noValue ?? 'No data', loaded?.reason],
    error: broken ? ['The panel could not be drawn', broken] : ['No answer to the query', loaded?.error],
    unsupported: [`The viewer cannot draw "${panel.type}"`, 'Grafana can: it reads the same file.'],
  };
  const [title, reason] = said[ready] ?? ['', undefined];
  return (
    <div className="message" role={ready === 'error' ? 'alert' : 'status'} title={reason} style={{ height }}>
      <strong>{title}</strong>
      {reason && height > 110 && <span>{reason}</span>}
    </div>
  );
}
