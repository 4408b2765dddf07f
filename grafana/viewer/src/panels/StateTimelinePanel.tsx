import { useTheme2 } from '@grafana/ui';
import { useMemo } from 'react';
import { stateLanes } from './lanes';
import { LanesChart } from './LanesChart';
import type { PanelProps } from './types';

export const stateDefaults = { fillOpacity: 80, lineWidth: 0, hideFrom: { tooltip: false, viz: false, legend: false } };

/** States over time: a lane a series. A status history is the same with its samples kept apart. */
export function StateTimelinePanel({ panel, frames, ...rest }: PanelProps) {
  const theme = useTheme2();
  const options = (panel.options ?? {}) as { mergeValues?: boolean; rowHeight?: number; showValue?: string };
  const apart = panel.type === 'status-history';
  const merge = !apart && options.mergeValues !== false;
  // The first series is on top.
  const lanes = useMemo(() => stateLanes(frames, merge, theme).reverse(), [frames, merge, theme]);
  return (
    <LanesChart
      {...rest}
      lanes={lanes}
      fill={options.rowHeight ?? 0.9}
      apart={apart}
      texts={!apart && options.showValue !== 'never'}
      hoverText={(lane, span) => `${lane.name}: ${span.text}`}
    />
  );
}
