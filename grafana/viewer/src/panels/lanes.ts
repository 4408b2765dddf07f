import { FieldType, formattedValueToString, type DataFrame, type Field } from '@grafana/data';
import type { GrafanaTheme2 } from '@grafana/data';

/** A stretch of time in a lane: how it is filled, and what it says. */
export interface Span {
  from: number;
  to: number;
  color: string;
  text: string;
}

/** One row of a chart over time: a series of a state timeline, a bucket of a heatmap. */
export interface Lane {
  name: string;
  spans: Span[];
}

export function timeOf(frame: DataFrame): Field | undefined {
  return frame.fields.find((field) => field.type === FieldType.time);
}

export function valuesOf(frame: DataFrame): Field[] {
  return frame.fields.filter((field) => field.type !== FieldType.time);
}

/**
 * A lane a series. A sample holds until the next one, yet not over a gap; neighbours that look the same are one span
 * where *merge* says so.
 */
export function stateLanes(frames: DataFrame[], merge: boolean, theme: GrafanaTheme2): Lane[] {
  return frames.flatMap((frame) => {
    const time = timeOf(frame);
    const step = time?.config.interval ?? 0;
    return valuesOf(frame).map((field) => {
      const spans: Span[] = [];
      frame.fields[0]?.values.forEach((at: number, i: number) => {
        const value: unknown = field.values[i];
        if (value === null || value === undefined || !time) {
          return;
        }
        const shown = field.display?.(value);
        const text = shown ? formattedValueToString(shown) : String(value);
        const color = shown?.color ?? theme.visualization.getColorByName('blue');
        const last = spans.at(-1);
        if (merge && last && last.to >= at && last.text === text && last.color === color) {
          last.to = at + step;
        } else {
          spans.push({ from: at, to: at + step, color, text });
        }
      });
      return { name: field.state?.displayName ?? field.name, spans };
    });
  });
}
