import { getFieldDisplayValues, type DataFrame, type FieldDisplay, type GrafanaTheme2, type ReduceDataOptions } from '@grafana/data';
import { fieldConfigOf } from '../data/fieldConfig';
import type { Panel } from '../data/model';

interface Given {
  panel: Panel;
  frames: DataFrame[];
  timeZone: string;
}

/** One value a series, or a row, as the panel's own options say; the last one where they say nothing. */
export function reduced({ panel, frames, timeZone }: Given, theme: GrafanaTheme2, sparkline = false): FieldDisplay[] {
  const options = panel.options?.reduceOptions as Partial<ReduceDataOptions> | undefined;
  return getFieldDisplayValues({
    fieldConfig: fieldConfigOf(panel),
    reduceOptions: { calcs: ['lastNotNull'], values: false, ...options },
    replaceVariables: (text) => text,
    theme,
    data: frames,
    sparkline,
    timeZone,
  });
}
