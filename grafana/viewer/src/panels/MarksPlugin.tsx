import { useTheme2, type UPlotConfigBuilder } from '@grafana/ui';
import { useEffect, useLayoutEffect, useRef } from 'react';
import type uPlot from 'uplot';
import type { Mark } from '../data/panelData';

const HANDLE_PX = 7;

/**
 * Annotations: a dashed line for a moment, a tinted band for a stretch of time, and a small handle under the
 * plot that says what it is.
 */
export function MarksPlugin({ config, marks }: { config: UPlotConfigBuilder; marks: Mark[] }) {
  const theme = useTheme2();
  const latest = useRef({ marks, theme });
  latest.current = { marks, theme };
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

function draw(u: uPlot, mark: Mark, colorByName: (name: string) => string): HTMLElement[] {
  const { min = 0, max = 0 } = u.scales.x ?? {};
  if (mark.to < (min ?? 0) || mark.from > (max ?? 0)) {
    return [];
  }
  const color = colorByName(mark.color);
  const inside = (x: number) => Math.min(Math.max(x, u.bbox.left), u.bbox.left + u.bbox.width);
  const from = inside(u.valToPos(mark.from, 'x', true));
  const to = inside(u.valToPos(mark.to, 'x', true));
  const { ctx } = u;
  ctx.save();
  if (to - from > 1) {
    ctx.globalAlpha = 0.1;
    ctx.fillStyle = color;
    ctx.fillRect(from, u.bbox.top, to - from, u.bbox.height);
    ctx.globalAlpha = 1;
  }
  ctx.strokeStyle = color;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  for (const x of to - from > 1 ? [from, to] : [from]) {
    ctx.moveTo(x, u.bbox.top);
    ctx.lineTo(x, u.bbox.top + u.bbox.height);
  }
  ctx.stroke();
  ctx.restore();
  return [handle(u, mark, color, from, to)];
}

function handle(u: uPlot, mark: Mark, color: string, from: number, to: number): HTMLElement {
  const left = (from - u.bbox.left) / devicePixelRatio;
  const width = Math.max((to - from) / devicePixelRatio, HANDLE_PX);
  const element = document.createElement('div');
  element.className = 'mark';
  element.title = `${mark.text || mark.title}\n${new Date(mark.from).toLocaleString()}`;
  element.dataset.mark = mark.title;
  element.style.left = `${to - from > 1 ? left : left - HANDLE_PX / 2}px`;
  element.style.width = `${width}px`;
  element.style.background = color;
  u.over.appendChild(element);
  return element;
}
