import { DashboardCursorSync, EventBusSrv } from '@grafana/data';
import { Icon, PanelContextProvider } from '@grafana/ui';
import { useEffect, useMemo, useState } from 'react';
import type { Dashboard as Model, Panel } from './data/model';
import { loadMarks, type Mark, type Scope } from './data/panelData';
import { PanelView } from './PanelView';
import { useWidth } from './state/hooks';

// Grafana's own grid.
const COLUMNS = 24;
const CELL_HEIGHT = 30;
const GAP = 8;
// Below this width panels stand one under the other.
const NARROW = 769;

interface Props {
  model: Model;
  scope: Scope | null;
  timeZone: string;
  onZoom: (from: number, to: number) => void;
}

export function Dashboard({ model, scope, timeZone, onZoom }: Props) {
  const [ref, width] = useWidth<HTMLDivElement>();
  const [folded, setFolded] = useState(() => new Set(model.panels.filter((p) => p.collapsed).map((p) => p.id)));
  const marks = useMarks(model, scope);
  const placed = useMemo(() => (width > 0 ? place(model.panels, folded, width) : []), [model, folded, width]);
  const context = useMemo(() => {
    const eventBus = new EventBusSrv();
    return { eventsScope: model.uid, eventBus, sync: () => DashboardCursorSync.Crosshair };
  }, [model]);
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
    <main ref={ref} className="grid" style={{ height: bottom + GAP }}>
      <PanelContextProvider value={context}>
        {placed.map(({ panel, left, top, width: w, height }) => (
          <div key={panel.id} className="cell" style={{ left, top, width: w, height }}>
            {panel.type === 'row' ? (
              <button className="row" type="button" aria-expanded={!folded.has(panel.id)} onClick={() => fold(panel.id)}>
                <Icon name={folded.has(panel.id) ? 'angle-right' : 'angle-down'} />
                {panel.title}
              </button>
            ) : (
              <PanelView
                panel={panel}
                width={w}
                height={height}
                scope={scope}
                timeZone={timeZone}
                marks={marks}
                onZoom={onZoom}
              />
            )}
          </div>
        ))}
      </PanelContextProvider>
    </main>
  );
}

interface Placed {
  panel: Panel;
  left: number;
  top: number;
  width: number;
  height: number;
}

/** Pixels for each panel; what a folded row holds is left out, and what is below moves up. */
function place(panels: Panel[], folded: Set<number>, width: number): Placed[] {
  const column = (width - GAP * (COLUMNS - 1)) / COLUMNS;
  const found: Placed[] = [];
  let hidden = false;
  let lifted = 0;
  let stacked = 0;
  for (const [i, panel] of panels.entries()) {
    if (panel.type === 'row') {
      hidden = folded.has(panel.id);
    } else if (hidden) {
      continue;
    }
    const { x, y, w, h } = panel.gridPos;
    const height = h * CELL_HEIGHT + (h - 1) * GAP;
    if (width < NARROW) {
      found.push({ panel, left: 0, top: stacked, width, height });
      stacked += height + GAP;
    } else {
      const top = (y - lifted) * (CELL_HEIGHT + GAP);
      found.push({ panel, left: Math.round(x * (column + GAP)), top, width: Math.floor(w * column + (w - 1) * GAP), height });
    }
    if (panel.type === 'row' && hidden) {
      const next = panels.slice(i + 1).find((p) => p.type === 'row');
      const end = next?.gridPos.y ?? Math.max(...panels.map((p) => p.gridPos.y + p.gridPos.h));
      lifted += end - (y + h);
    }
  }
  return found;
}

function useMarks(model: Model, scope: Scope | null): Mark[] {
  const [marks, setMarks] = useState<Mark[]>([]);
  useEffect(() => {
    if (!scope) {
      return undefined;
    }
    const abort = new AbortController();
    const wanted = (model.annotations?.list ?? []).filter((a) => a.enable && a.target?.expr);
    // A broken annotation must not take the panels with it.
    Promise.all(wanted.map((a) => loadMarks(a, scope, abort.signal).catch(() => [])))
      .then((found) => {
        if (!abort.signal.aborted) {
          setMarks(found.flat());
        }
      })
      .catch(() => undefined);
    return () => abort.abort();
  }, [model, scope]);
  return marks;
}

