import type { TimeRange } from '@grafana/data';
import { AxisPlacement, ScaleDirection, ScaleOrientation } from '@grafana/schema';
import { UPlotChart, UPlotConfigBuilder, usePanelContext, useTheme2, EventBusPlugin } from '@grafana/ui';
import { useLayoutEffect, useMemo, useRef, useState } from 'react';
import type uPlot from 'uplot';
import { PADDING } from './edge';
import type { Lane, Span } from './lanes';
import { MarksPlugin } from './MarksPlugin';

const FONT = '12px Inter, Helvetica, Arial, sans-serif';
const WIDEST_NAMES = 0.35;
const LEAST_ZOOM_PX = 5;

interface Props {
  // From the bottom to the top.
  lanes: Lane[];
  width: number;
  height: number;
  range: TimeRange;
  timeZone: string;
  onZoom: (from: number, to: number) => void;
  // How much of a lane's height its spans fill.
  fill: number;
  // Whether the text of a span stands in it where there is room.
  texts: boolean;
  // Whether neighbours stand apart.
  apart?: boolean;
  // Buckets are named at their lower edge, states in the middle.
  atEdge?: boolean;
  hoverText: (lane: Lane, span: Span) => string;
}

interface Hovered {
  left: number;
  top: number;
  text: string;
}

/** Lanes over time, drawn on uPlot's canvas: what state timelines and heatmaps have in common. */
export function LanesChart(props: Props) {
  const { lanes, width, height, range, timeZone, atEdge } = props;
  const theme = useTheme2();
  const { eventBus } = usePanelContext();
  const [hovered, setHovered] = useState<Hovered>();
  const latest = useRef(props);
  latest.current = props;
  const names = JSON.stringify(lanes.map(({ name }) => name));
  const from = range.from.valueOf();
  const to = range.to.valueOf();

  const config = useMemo(() => {
    const labels = JSON.parse(names) as string[];
    const builder = new UPlotConfigBuilder(timeZone);
    builder.setPadding(PADDING);
    const time = { scaleKey: 'x', isTime: true, orientation: ScaleOrientation.Horizontal, direction: ScaleDirection.Right };
    builder.addScale({ ...time, range: () => [latest.current.range.from.valueOf(), latest.current.range.to.valueOf()] });
    builder.addScale({
      scaleKey: 'y',
      orientation: ScaleOrientation.Vertical,
      direction: ScaleDirection.Up,
      range: () => [0, Math.max(1, labels.length)],
    });
    builder.addAxis({ scaleKey: 'x', isTime: true, placement: AxisPlacement.Bottom, timeZone, theme, grid: { show: false } });
    const room = (latest.current.height - 30) / Math.max(1, labels.length);
    const every = Math.max(1, Math.ceil(14 / Math.max(room, 1)));
    const splits = labels.map((_, i) => i + (atEdge ? 0 : 0.5)).filter((_, i) => i % every === 0);
    builder.addAxis({
      scaleKey: 'y',
      placement: AxisPlacement.Left,
      theme,
      size: Math.min(nameWidth(labels), Math.round(width * WIDEST_NAMES)),
      grid: { show: false },
      ticks: { show: false },
      splits: () => splits,
      values: (_u, at) => at.map((v) => fitted(labels[Math.floor(v)] ?? '', Math.round(width * WIDEST_NAMES) - 14)),
    });
    // uPlot wants a series to place its pointer by; the lanes are drawn by the hook.
    builder.addSeries({ scaleKey: 'y', pathBuilder: () => null, theme, pxAlign: false } as never);
    builder.setCursor({ drag: { x: true, y: false, setScale: false }, points: { show: false } });
    builder.addHook('drawClear', (u) => draw(u, latest.current));
    builder.addHook('setCursor', (u) => setHovered(hoveredAt(u, latest.current)));
    builder.addHook('setSelect', (u) => {
      if (u.select.width >= LEAST_ZOOM_PX) {
        latest.current.onZoom(u.posToVal(u.select.left, 'x'), u.posToVal(u.select.left + u.select.width, 'x'));
      }
      u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    });
    return builder;
  }, [names, timeZone, theme, atEdge, width, height]);

  const data = useMemo<uPlot.AlignedData>(() => [[from, to], [null, null]], [from, to, lanes]);
  const plot = useRef<uPlot>();
  useLayoutEffect(() => plot.current?.redraw(false), [lanes, theme]);

  return (
    <UPlotChart
      config={config}
      data={data}
      width={width}
      height={height}
      plotRef={(u) => {
        plot.current = u;
      }}
    >
      <EventBusPlugin config={config} eventBus={eventBus} />
      <MarksPlugin config={config} />
      {hovered && (
        <div
          className="lane-hover"
          style={{
            [hovered.left > width / 2 ? 'right' : 'left']: hovered.left > width / 2 ? width - hovered.left + 12 : hovered.left + 12,
            top: Math.min(hovered.top, Math.max(0, height - 64)),
            background: theme.colors.background.elevated,
            borderColor: theme.colors.border.medium,
          }}
        >
          {hovered.text}
        </div>
      )}
    </UPlotChart>
  );
}

function draw(u: uPlot, { lanes, fill, texts, apart }: Props): void {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.font = scaled(FONT);
  ctx.textBaseline = 'middle';
  ctx.textAlign = 'left';
  lanes.forEach(({ spans }, i) => {
    const top = u.valToPos(i + 0.5 + fill / 2, 'y', true);
    const bottom = u.valToPos(i + 0.5 - fill / 2, 'y', true);
    for (const { from, to, color, text } of spans) {
      const left = Math.round(u.valToPos(from, 'x', true));
      const right = Math.round(u.valToPos(to, 'x', true));
      if (right < bbox.left || left > bbox.left + bbox.width || color === 'transparent') {
        continue;
      }
      ctx.fillStyle = color;
      ctx.fillRect(left, Math.round(top), Math.max(1, right - left - (apart ? devicePixelRatio : 0)), Math.max(1, Math.round(bottom) - Math.round(top)));
      const start = Math.max(left, bbox.left);
      const room = Math.min(right, bbox.left + bbox.width) - start - 8 * devicePixelRatio;
      if (texts && bottom - top >= 14 * devicePixelRatio && ctx.measureText(text).width <= room) {
        ctx.fillStyle = onto(color);
        ctx.fillText(text, start + 4 * devicePixelRatio, (top + bottom) / 2);
      }
    }
  });
  ctx.restore();
}

function hoveredAt(u: uPlot, { lanes, hoverText }: Props): Hovered | undefined {
  const { left = -1, top = -1 } = u.cursor;
  if (left < 0 || top < 0 || !u.cursor.event) {
    return undefined;
  }
  const lane = lanes[Math.floor(u.posToVal(top, 'y'))];
  const at = u.posToVal(left, 'x');
  const span = lane?.spans.find(({ from, to }) => from <= at && at < to);
  if (!lane || !span) {
    return undefined;
  }
  const { left: offset, top: lift } = u.over.style;
  return { left: left + Number.parseFloat(offset), top: top + Number.parseFloat(lift), text: hoverText(lane, span) };
}

const pen = document.createElement('canvas').getContext('2d');

function nameWidth(names: string[]): number {
  if (pen) {
    pen.font = FONT;
  }
  return Math.ceil(Math.max(24, ...names.map((name) => pen?.measureText(name).width ?? 0))) + 14;
}

/** *text* with its end cut off until it fits. */
function fitted(text: string, width: number): string {
  if (!pen) {
    return text;
  }
  pen.font = FONT;
  let kept = text;
  while (kept.length > 1 && pen.measureText(kept === text ? kept : `${kept}…`).width > width) {
    kept = kept.slice(0, -1);
  }
  return kept === text ? text : `${kept}…`;
}

function scaled(font: string): string {
  return font.replace(/^(\d+)px/, (_, size: string) => `${Number(size) * devicePixelRatio}px`);
}

/** Black or white, whichever is read more easily on *color*. */
export function onto(color: string): string {
  const [r = 0, g = 0, b = 0] = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})/i.exec(color)?.slice(1).map((h) => parseInt(h, 16)) ?? [];
  return r * 0.299 + g * 0.587 + b * 0.114 > 140 ? '#000' : '#fff';
}
