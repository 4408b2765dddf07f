import { useTheme2, type UPlotConfigBuilder } from '@grafana/ui';
import { createContext, useContext, useEffect, useLayoutEffect, useRef } from 'react';
import type uPlot from 'uplot';
import type { Mark } from '../data/panelData';

const HANDLE_PX = 7;

/** The marks of the whole dashboard: when they come, they are drawn onto the charts, and no panel anew. */
export const MarksContext = createContext<Mark[]>([]);

/**
 * Annotations: a dashed line for a moment, a tinted band for a stretch of time, and a small handle under the
 * plot that says what it is.
 */
export function MarksPlugin({ config }: { config: UPlotConfigBuilder }) {
  const marks = useContext(MarksContext);
  const theme = useTheme2();
  const latest = useRef({ marks, theme });
  latest.current = { marks: merged(marks), theme };
  const plot = useRef<uPlot>();

  useLayoutEffect(() => {
    let handles: HTMLElement[] = [];
    config.addHook('init', (u) => {
      plot.current = u;
    });
    config.addHook('draw', (u) => {
      handles.forEach((handle) => handle.remove());
      handles = latest.current.marks.flatMap((mark) => draw(u, mark, latest.current.theme.visualization.getColorByName));
    });
    return () => handles.forEach((handle) => handle.remove());
  }, [config]);

  useEffect(() => {
    plot.current?.redraw(false);
  }, [marks]);

  return null;
}

/**
 * Marks of one colour that overlap, as one: several alerts at once would otherwise paint the plot over.
 */
export function merged(marks: Mark[]): Mark[] {
  const found: Mark[] = [];
  for (const mark of [...marks].sort((a, b) => a.from - b.from)) {
    const open = found.find((other) => other.color === mark.color && mark.from <= other.to);
    if (open) {
      open.to = Math.max(open.to, mark.to);
      open.title = `${open.title}\n${mark.title}`;
      open.text = `${open.text}\n${mark.text}`;
    } else {
      found.push({ ...mark });
    }
  }
  return found;
}

function draw(u: uPlot, mark: Mark, colorByName: (name: string) => string): HTMLElement[] {
  const { min, max } = u.scales.x ?? {};
  if (mark.to < (min ?? 0) || mark.from > (max ?? 0)) {
    return [];
  }
  const color = colorByName(mark.color);
  const inside = (x: number) => Math.min(Math.max(x, u.bbox.left), u.bbox.left + u.bbox.width);
  const from = inside(u.valToPos(mark.from, 'x', true));
  const to = inside(u.valToPos(mark.to, 'x', true));
  const { ctx } = u;
  ctx.save();
  ctx.fillStyle = color;
  ctx.globalAlpha = 0.06;
  ctx.fillRect(from, u.bbox.top, to - from, u.bbox.height);
  ctx.globalAlpha = 0.5;
  ctx.strokeStyle = color;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(from, u.bbox.top);
  ctx.lineTo(from, u.bbox.top + u.bbox.height);
  ctx.stroke();
  ctx.restore();
  return [handle(u, mark, color, from, to)];
}

function handle(u: uPlot, mark: Mark, color: string, from: number, to: number): HTMLElement {
  const left = (from - u.bbox.left) / devicePixelRatio;
  const width = (to - from) / devicePixelRatio;
  const element = document.createElement('div');
  element.className = 'mark';
  element.title = `${new Date(mark.from).toLocaleTimeString()}\n${mark.text || mark.title}`;
  element.dataset.mark = mark.title;
  element.style.left = `${width > HANDLE_PX ? left : left - HANDLE_PX / 2}px`;
  element.style.width = `${Math.max(width, HANDLE_PX)}px`;
  element.style.background = color;
  u.over.appendChild(element);
  return element;
}
