import { DashboardCursorSync, EventBusSrv } from '@grafana/data';
import { Button, Icon, PanelContextProvider } from '@grafana/ui';
import { memo, useEffect, useMemo, useRef, useState } from 'react';
import { inWords } from './data/interpolate';
import type { Here } from './data/links';
import type { Annotation, Dashboard as Model } from './data/model';
import { loadMarks, type Mark, type Scope } from './data/panelData';
import { MarksContext } from './panels/MarksPlugin';
import { PanelView } from './PanelView';
import { useRoom } from './state/hooks';
import { allPanels, GAP, place, type Placed } from './state/layout';
import { Order, OrderContext } from './state/order';

// A panel that fills the page is still a picture on a very low window.
const LEAST_HEIGHT = 320;

interface Props {
  model: Model;
  scope: Scope | null;
  here: Here;
  annotations: Annotation[];
  timeZone: string;
  onZoom: (from: number, to: number) => void;
  onAlone: (id: number | undefined) => void;
}

export const Dashboard = memo(function Dashboard({ model, scope, here, annotations, timeZone, onZoom, onAlone }: Props) {
  const [ref, room] = useRoom<HTMLElement>();
  const [folded, setFolded] = useState(() => new Set(model.panels.filter((p) => p.collapsed).map((p) => p.id)));
  const order = useOrder();
  const marks = useMarks(annotations, scope, order);
  const wanted = here.place.viewPanel;
  const alone = useMemo(() => allPanels(model.panels).find((panel) => panel.id === wanted), [model, wanted]);
  const placed = useMemo<Placed[]>(() => {
    if (room.width <= 0) {
      return [];
    }
    if (alone) {
      return [{ panel: alone, left: 0, top: 0, width: room.width, height: Math.max(LEAST_HEIGHT, room.height) }];
    }
    return place(model.panels, folded, room.width);
  }, [model, folded, room, alone]);
  const context = useMemo(() => {
    const eventBus = new EventBusSrv();
    return { eventsScope: model.uid, eventBus, sync: () => DashboardCursorSync.Crosshair };
  }, [model]);
  useKeys(ref, alone?.id, onAlone);

  const fold = (id: number) => {
    setFolded((before) => {
      const after = new Set(before);
      if (!after.delete(id)) {
        after.add(id);
      }
      return after;
    });
  };
  const bottom = Math.max(0, ...placed.map(({ top, height }) => top + height));

  return (
    <main id="panels" ref={ref} className="grid" tabIndex={-1} style={{ height: bottom + GAP }}>
      {wanted !== undefined && !alone && (
        <p role="alert">
          This dashboard has no panel {wanted}.{' '}
          <Button size="sm" onClick={() => onAlone(undefined)}>
            Show all panels
          </Button>
        </p>
      )}
      <PanelContextProvider value={context}>
        <OrderContext.Provider value={order}>
          <MarksContext.Provider value={marks}>
            {placed.map(({ panel, left, top, width, height }) => (
              <div key={panel.id} className="cell" style={{ left, top, width, height }}>
                {panel.type === 'row' ? (
                  <h2 className="row">
                    <button type="button" aria-expanded={!folded.has(panel.id)} onClick={() => fold(panel.id)}>
                      <Icon name={folded.has(panel.id) ? 'angle-right' : 'angle-down'} />
                      {inWords(panel.title, here.chosen)}
                    </button>
                  </h2>
                ) : (
                  <PanelView
                    panel={panel}
                    width={width}
                    height={height}
                    scope={scope}
                    here={here}
                    timeZone={timeZone}
                    onZoom={onZoom}
                    alone={panel === alone}
                    onAlone={onAlone}
                  />
                )}
              </div>
            ))}
          </MarksContext.Provider>
        </OrderContext.Provider>
      </PanelContextProvider>
    </main>
  );
});

function useOrder(): Order {
  const [order] = useState(() => new Order());
  useEffect(() => {
    window.addEventListener('scroll', order.look, { passive: true });
    return () => window.removeEventListener('scroll', order.look);
  }, [order]);
  return order;
}

const OVERLAY = '[role="menu"], [role="dialog"], [role="listbox"]:not(:empty), [data-overlay]';

/** `v` on a panel, by focus or by pointer, lets it fill the page, and gives it back; Escape gives it back, too. */
function useKeys(
  ref: React.RefObject<HTMLElement>,
  alone: number | undefined,
  onAlone: (id: number | undefined) => void,
): void {
  const latest = useRef({ alone, onAlone });
  latest.current = { alone, onAlone };
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const { alone: now, onAlone: tell } = latest.current;
      const typing = event.target instanceof Element && event.target.closest('input, textarea, select, [contenteditable]');
      // What is open on top of the page takes the key for itself.
      if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector(OVERLAY)) {
        return;
      }
      if (event.key === 'Escape' && now !== undefined) {
        tell(undefined);
      } else if (event.key === 'v') {
        const id = idOf(document.activeElement) ?? idOf(ref.current?.querySelector('[data-panel-id]:hover') ?? null);
        tell(now === undefined ? id : undefined);
      }
    };
    window.addEventListener('keydown', onKey, true);
    return () => window.removeEventListener('keydown', onKey, true);
  }, [ref]);

  // Who came by keyboard goes on from the same panel.
  const before = useRef(alone);
  useEffect(() => {
    const id = alone ?? before.current;
    if (before.current !== alone && id !== undefined) {
      ref.current?.querySelector<HTMLElement>(`[data-panel-id="${id}"] section`)?.focus();
    }
    before.current = alone;
  }, [alone, ref]);
}

function idOf(element: Element | null): number | undefined {
  const id = element?.closest<HTMLElement>('[data-panel-id]')?.dataset.panelId;
  return id === undefined ? undefined : Number(id);
}

function useMarks(annotations: Annotation[], scope: Scope | null, order: Order): Mark[] {
  const [marks, setMarks] = useState<Mark[]>([]);
  useEffect(() => {
    if (!scope) {
      return undefined;
    }
    const abort = new AbortController();
    // A broken annotation must not take the panels with it.
    const load = () => Promise.all(annotations.map((a) => loadMarks(a, scope, abort.signal).catch(() => [])));
    order
      .run(null, load, abort.signal)
      .then((found) => {
        if (!abort.signal.aborted) {
          setMarks(found.flat());
        }
      })
      .catch(() => undefined);
    return () => abort.abort();
  }, [annotations, scope, order]);
  return marks;
}
