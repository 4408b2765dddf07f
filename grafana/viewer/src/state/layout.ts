import type { Panel } from '../data/model';

// Grafana's own grid.
const COLUMNS = 24;
const CELL_HEIGHT = 30;
export const GAP = 8;
// Below this width panels stand one under the other.
export const NARROW = 769;
// There, two tiles with a number each still stand side by side.
const TILE_COLUMNS = 6;
const TILES = new Set(['stat', 'gauge']);

export interface Placed {
  panel: Panel;
  left: number;
  top: number;
  width: number;
  height: number;
}

interface Section {
  row?: Panel;
  panels: Panel[];
}

/**
 * A row, and what stands under it until the next one. A row that the file folds holds its panels itself, and what
 * follows is placed as if they were not there; so only places within a section count.
 */
function sections(panels: Panel[]): Section[] {
  const found: Section[] = [{ panels: [] }];
  for (const panel of [...panels].sort((a, b) => a.gridPos.y - b.gridPos.y || a.gridPos.x - b.gridPos.x)) {
    if (panel.type === 'row') {
      found.push({ row: panel, panels: [...(panel.panels ?? [])] });
    } else {
      found.at(-1)?.panels.push(panel);
    }
  }
  return found;
}

function heightOf(cells: number): number {
  return cells * CELL_HEIGHT + (cells - 1) * GAP;
}

/** One under the other; small tiles in pairs. */
function stacked(panels: Panel[], start: number, width: number): Placed[] {
  const found: Placed[] = [];
  const half = Math.floor((width - GAP) / 2);
  let top = start;
  let waiting: Placed | undefined;
  for (const panel of panels) {
    const height = heightOf(panel.gridPos.h);
    const small = panel.gridPos.w <= TILE_COLUMNS && TILES.has(panel.type);
    if (waiting && small && waiting.height === height) {
      waiting.width = half;
      found.push({ panel, left: half + GAP, top: waiting.top, width: half, height });
      waiting = undefined;
      continue;
    }
    const placed = { panel, left: 0, top, width, height };
    found.push(placed);
    waiting = small ? placed : undefined;
    top += height + GAP;
  }
  return found;
}

/** Every panel that draws something, those of folded rows among them. */
export function allPanels(panels: Panel[]): Panel[] {
  return panels.flatMap((panel) => (panel.type === 'row' ? (panel.panels ?? []) : [panel]));
}

/** Pixels for each panel; what a folded row holds is left out, and what is below moves up. */
export function place(panels: Panel[], folded: ReadonlySet<number>, width: number): Placed[] {
  const column = (width - GAP * (COLUMNS - 1)) / COLUMNS;
  const found: Placed[] = [];
  let top = 0;
  for (const section of sections(panels)) {
    if (section.row) {
      found.push({ panel: section.row, left: 0, top, width, height: CELL_HEIGHT });
      top += CELL_HEIGHT + GAP;
      if (folded.has(section.row.id)) {
        continue;
      }
    }
    const first = Math.min(...section.panels.map(({ gridPos }) => gridPos.y));
    const start = top;
    if (width < NARROW) {
      found.push(...stacked(section.panels, top, width));
      const last = found.at(-1);
      top = last ? last.top + last.height + GAP : top;
      continue;
    }
    for (const panel of section.panels) {
      const { x, y, w, h } = panel.gridPos;
      const height = heightOf(h);
      const at = start + (y - first) * (CELL_HEIGHT + GAP);
      found.push({ panel, left: Math.round(x * (column + GAP)), top: at, width: Math.floor(w * column + (w - 1) * GAP), height });
      top = Math.max(top, at + height + GAP);
    }
  }
  return found;
}
