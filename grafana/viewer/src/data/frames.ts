import { FieldType, type DataFrame, type Field } from '@grafana/data';
import type { Target } from './model';
import type { Labels, Series } from './prometheus';

/** `{{label}}` of a legend, or the series as PromQL writes it. */
export function legendOf(format: string | undefined, metric: Labels): string {
  if (format && format !== '__auto') {
    return format.replace(/\{\{\s*([^}\s]+)\s*\}\}/g, (_, label: string) => metric[label] ?? '').trim();
  }
  const { __name__: name = '', ...labels } = metric;
  const inside = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  return inside.length > 0 || !name ? `${name}{${inside.join(', ')}}` : name;
}

/** A frame a series: its times, and its values. *stepSeconds* makes a missing sample a gap instead of a line. */
export function toSeriesFrames(target: Target, series: Series[], stepSeconds: number): DataFrame[] {
  return series.map(({ metric, values: samples }) => {
    const [first] = samples;
    // A bar is as wide as the time between two samples; a lone one would fill the plot.
    const lone: Array<[number, string]> = first && samples.length === 1 ? [[first[0] - stepSeconds, 'NaN']] : [];
    const values = [...lone, ...samples];
    const time: Field = {
      name: 'Time',
      type: FieldType.time,
      config: { interval: stepSeconds * 1000 },
      values: values.map(([seconds]) => seconds * 1000),
    };
    const value: Field = {
      name: 'Value',
      type: FieldType.number,
      config: { displayNameFromDS: legendOf(target.legendFormat, metric) },
      labels: metric,
      values: values.map(([, text]) => toNumber(text)),
    };
    return { refId: target.refId, fields: [time, value], length: values.length };
  });
}

/** One frame: a column a label, a row a series. With several queries the value's column carries the query's letter. */
export function toTableFrame(target: Target, series: Series[], several: boolean): DataFrame {
  const labels = [...new Set(series.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const fields: Field[] = [
    {
      name: 'Time',
      type: FieldType.time,
      config: {},
      values: series.map(({ values }) => (values.at(-1)?.[0] ?? 0) * 1000),
    },
    ...labels.map((label) => ({
      name: label,
      type: FieldType.string,
      config: {},
      values: series.map(({ metric }) => metric[label] ?? ''),
    })),
    {
      name: several ? `Value #${target.refId}` : 'Value',
      type: FieldType.number,
      config: {},
      values: series.map(({ values }) => toNumber(values.at(-1)?.[1] ?? 'NaN')),
    },
  ];
  return { refId: target.refId, fields, length: series.length };
}

function toNumber(text: string): number | null {
  if (text === '+Inf') {
    return Number.POSITIVE_INFINITY;
  }
  const value = Number(text);
  return Number.isNaN(value) ? null : value;
}
