import type { ComponentType } from 'react';
import { BarGaugePanel } from './BarGaugePanel';
import { GaugePanel } from './GaugePanel';
import { HeatmapPanel } from './HeatmapPanel';
import { PieChartPanel } from './PieChartPanel';
import { StatPanel } from './StatPanel';
import { StateTimelinePanel, stateDefaults } from './StateTimelinePanel';
import { TablePanel, tableDefaults } from './TablePanel';
import { TextPanel } from './TextPanel';
import { TimeSeriesPanel, timeSeriesDefaults } from './TimeSeriesPanel';
import type { PanelProps } from './types';

export interface Kind {
  component: ComponentType<PanelProps>;
  defaults: object;
  // What the picture is called to who cannot see it; without it, the panel is text already.
  picture?: string;
}

const kinds: Record<string, Kind> = {
  timeseries: { component: TimeSeriesPanel, defaults: timeSeriesDefaults, picture: 'Chart over time' },
  stat: { component: StatPanel, defaults: {} },
  bargauge: { component: BarGaugePanel, defaults: {} },
  gauge: { component: GaugePanel, defaults: {} },
  heatmap: { component: HeatmapPanel, defaults: {}, picture: 'Heatmap' },
  'state-timeline': { component: StateTimelinePanel, defaults: stateDefaults, picture: 'States over time' },
  'status-history': { component: StateTimelinePanel, defaults: stateDefaults, picture: 'States over time' },
  piechart: { component: PieChartPanel, defaults: {}, picture: 'Shares' },
  table: { component: TablePanel, defaults: tableDefaults },
  text: { component: TextPanel, defaults: {} },
};

export function kindOf(type: string): Kind | undefined {
  return Object.hasOwn(kinds, type) ? kinds[type] : undefined;
}
