import type { DataFrame, TimeRange } from '@grafana/data';
import { toSeriesFrames, toTableFrame } from './frames';
import { interpolate, type Chosen } from './interpolate';
import { stepFor, type Step } from './interval';
import type { Annotation, Panel, Target, Variable } from './model';
import { queryNow, queryRange, type Series } from './prometheus';
import { transform } from './transform';

/** What every query of a dashboard has in common. */
export interface Scope {
  variables: Variable[];
  chosen: Chosen;
  range: TimeRange;
}

export interface PanelData {
  frames: DataFrame[];
  // Expressions as they were sent: what an empty panel explains itself with.
  asked: string[];
}

// So many points that a screen has at most: what is narrower asks for fewer.
const DEFAULT_POINTS = 600;
// A chart's axis takes some of its width, and more points than pixels are left would be drawn over each other.
const AXIS_PIXELS = 70;

async function run(target: Target, step: Step, scope: Scope, signal: AbortSignal): Promise<[string, Series[]]> {
  const query = interpolate(target.expr, scope.variables, scope.chosen, step);
  const series = target.instant
    ? await queryNow(query, scope.range.to.valueOf() / 1000, signal)
    : await queryRange(query, step.start, step.end, step.seconds, signal);
  return [query, series];
}

export async function loadPanel(panel: Panel, width: number, scope: Scope, signal: AbortSignal): Promise<PanelData> {
  const targets = (panel.targets ?? []).filter((t) => !t.hide);
  const pixels = Math.round(panel.type === 'timeseries' ? width - AXIS_PIXELS : width);
  const points = panel.maxDataPoints ?? (pixels > 0 ? pixels : DEFAULT_POINTS);
  const step = stepFor(scope.range, points, panel.interval);
  const results = await Promise.all(targets.map((target) => run(target, step, scope, signal)));
  const frames = targets.flatMap((target, i) => {
    const series = results[i]?.[1] ?? [];
    if (target.format === 'table') {
      return series.length > 0 ? [toTableFrame(target, series, targets.length > 1)] : [];
    }
    return toSeriesFrames(target, series, step.seconds);
  });
  return { frames: await transform(panel, frames), asked: results.map(([query]) => query) };
}

/** A moment, or a stretch of time, and what it says. */
export interface Mark {
  from: number;
  to: number;
  color: string;
  title: string;
  text: string;
}

/** An annotation's marks: samples above zero, neighbours joined. */
export async function loadMarks(annotation: Annotation, scope: Scope, signal: AbortSignal): Promise<Mark[]> {
  const { expr = '', interval } = annotation.target ?? {};
  const step = stepFor(scope.range, DEFAULT_POINTS, interval);
  const query = interpolate(expr, scope.variables, scope.chosen, step);
  const found = await queryRange(query, step.start, step.end, step.seconds, signal);
  return found.flatMap(({ metric, values }) => {
    const fill = (format = '') => format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label: string) => metric[label] ?? '');
    const marks: Mark[] = [];
    for (const [seconds, value] of values) {
      const at = seconds * 1000;
      const last = marks.at(-1);
      if (Number(value) <= 0) {
        continue;
      }
      if (last && at - last.to <= step.seconds * 1000) {
        last.to = at;
      } else {
        const title = fill(annotation.titleFormat) || annotation.name;
        marks.push({ from: at, to: at, color: annotation.iconColor, title, text: fill(annotation.textFormat) });
      }
    }
    return marks;
  });
}
