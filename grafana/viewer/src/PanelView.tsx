import { LoadingState, renderMarkdown, type DataFrame, type TimeRange } from '@grafana/data';
import { ErrorBoundary, Menu, PanelChrome, useTheme2 } from '@grafana/ui';
import { memo, useContext, useEffect, useMemo, useRef, useState, type RefObject } from 'react';
import { applyConfig, fieldConfigOf } from './data/fieldConfig';
import { inWords as chosenInWords } from './data/interpolate';
import { panelLinks, type Here } from './data/links';
import type { Panel } from './data/model';
import { loadPanel, type PanelData, type Scope } from './data/panelData';
import { whyEmpty } from './data/whyEmpty';
import { kindOf, type Kind } from './panels/kinds';
import { inWords, ValuesTable } from './panels/Values';
import { OrderContext } from './state/order';

/** What `data-ready` says: tests wait for "true", and nothing else is a drawn panel. */
type Ready = 'loading' | 'true' | 'nodata' | 'error' | 'unsupported';

interface Loaded {
  data?: PanelData;
  error?: string;
  reason?: string;
  // The time that was asked for: a picture never shows old data under a new axis.
  range: TimeRange;
}

interface Data {
  loaded: Loaded | undefined;
  // Whether it was this panel's turn already.
  begun: boolean;
}

export interface PanelViewProps {
  panel: Panel;
  width: number;
  height: number;
  scope: Scope | null;
  here: Here;
  timeZone: string;
  onZoom: (from: number, to: number) => void;
  // Whether it fills the page, and how to change that.
  alone: boolean;
  onAlone: (id: number | undefined) => void;
}

export const PanelView = memo(function PanelView(props: PanelViewProps) {
  const { panel, width, height, scope, here, timeZone, onZoom, alone, onAlone } = props;
  const theme = useTheme2();
  const kind = kindOf(panel.type);
  const ref = useRef<HTMLDivElement>(null);
  const { loaded, begun } = useData(panel, width, scope, ref);
  const frames = useMemo(() => {
    const raw = loaded?.data?.frames ?? [];
    return kind ? applyConfig(raw, fieldConfigOf(panel, kind.defaults), panel.type, theme, timeZone) : [];
  }, [loaded, kind, panel, theme, timeZone]);
  const [broken, setBroken] = useState<string>();
  const [asTable, setAsTable] = useState(false);
  useEffect(() => setBroken(undefined), [frames]);
  const ready = broken === undefined ? readyOf(panel, kind, loaded, frames) : 'error';
  const title = chosenInWords(panel.title, here.chosen);
  const links = panelLinks(panel.links, here);

  const menu = () => (
    <Menu ariaLabel={`Menu of ${title}`}>
      <Menu.Item label={alone ? 'Back to the dashboard' : 'View'} icon="eye" shortcut="v" onClick={() => onAlone(alone ? undefined : panel.id)} />
      {kind?.picture && (
        <Menu.Item
          label={asTable ? 'Values as a picture' : 'Values as a table'}
          icon={asTable ? 'graph-bar' : 'table'}
          onClick={() => setAsTable(!asTable)}
        />
      )}
      {links.map((link) => (
        <Menu.Item key={link.href} label={link.title} icon="link" url={link.href} target={link.newTab ? '_blank' : undefined} />
      ))}
    </Menu>
  );

  // A frame, title and menu for each panel at once would keep those on the screen waiting.
  if (!begun) {
    return (
      <div ref={ref} data-panel-id={panel.id} data-panel-type={panel.type} data-ready={ready} className="frame" style={{ height }} />
    );
  }
  return (
    <div ref={ref} data-panel-id={panel.id} data-panel-type={panel.type} data-ready={ready}>
      <PanelChrome
        title={title}
        description={panel.description ? () => renderMarkdown(panel.description ?? '') : undefined}
        width={width}
        height={height}
        padding={panel.type === 'table' ? 'none' : 'md'}
        loadingState={loaded || ready !== 'loading' ? LoadingState.Done : LoadingState.Loading}
        statusMessage={loaded?.error ?? broken}
        menu={menu}
      >
        {(innerWidth, innerHeight) => {
          if (ready !== 'true' || !kind) {
            return <Message ready={ready} panel={panel} loaded={loaded} broken={broken} height={innerHeight} />;
          }
          if (asTable) {
            return <ValuesTable title={title} frames={frames} height={innerHeight} />;
          }
          const Component = kind.component;
          const picture = (
            <ErrorBoundary boundaryName={title} errorLogger={console.error} onError={(e) => setBroken(e.message)}>
              {({ error }) =>
                error || !scope ? null : (
                  <Component
                    panel={panel}
                    frames={frames}
                    width={innerWidth}
                    height={innerHeight}
                    range={loaded?.range ?? scope.range}
                    timeZone={timeZone}
                    onZoom={onZoom}
                  />
                )
              }
            </ErrorBoundary>
          );
          return kind.picture ? (
            <div role="figure" aria-label={inWords(kind.picture, frames)}>
              {picture}
            </div>
          ) : (
            picture
          );
        }}
      </PanelChrome>
    </div>
  );
});

function useData(panel: Panel, width: number, scope: Scope | null, ref: RefObject<HTMLElement>): Data {
  const order = useContext(OrderContext);
  const asks = kindOf(panel.type) !== undefined && panel.type !== 'text';
  const [begun, setBegun] = useState(!asks);
  const [loaded, setLoaded] = useState<Loaded>();
  useEffect(() => {
    if (!scope || !asks) {
      return undefined;
    }
    const abort = new AbortController();
    const load = async (): Promise<Loaded> => {
      setBegun(true);
      const data = await loadPanel(panel, width, scope, abort.signal);
      const reason = hasData(data.frames) ? undefined : await whyEmpty(data.asked, scope.range, abort.signal);
      return { data, reason, range: scope.range };
    };
    order.run(ref.current, load, abort.signal).then(setLoaded, (error: unknown) => {
      if (!abort.signal.aborted) {
        setLoaded({ error: error instanceof Error ? error.message : String(error), range: scope.range });
      }
    });
    return () => abort.abort();
    // A few pixels more are no reason to ask again: the next refresh does.
  }, [panel, scope, order, ref, asks]);
  return { loaded, begun };
}

// Samples that are all NaN, as 0/0 gives, are no more to look at than none.
function hasData(frames: DataFrame[]): boolean {
  return frames.some(({ fields, length }) => length > 0 && fields.some((f) => f.type !== 'time' && f.values.some((v) => v !== null)));
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
  // Where there is no room for the reason, it is still there for a pointer and for a screen reader.
  return (
    <div className="message" role={ready === 'error' ? 'alert' : 'note'} title={reason} style={{ height }}>
      <strong>{title}</strong>
      {reason && <span className={height > 110 ? '' : 'unseen'}>{reason}</span>}
    </div>
  );
}
