import {
  FieldType,
  applyNullInsertThreshold,
  formattedValueToString,
  getFieldSeriesColor,
  type DataFrame,
  type Field,
  type TimeRange,
} from '@grafana/data';
import {
  EventBusPlugin,
  LegendDisplayMode,
  SeriesTable,
  TimeSeries,
  TooltipPlugin2,
  usePanelContext,
  useTheme2,
  type SeriesTableRowProps,
  type UPlotConfigBuilder,
} from '@grafana/ui';
import type { VizLegendOptions } from '@grafana/schema';
import { useLayoutEffect, useMemo, useState } from 'react';
import { PADDING } from './edge';
import { Legend, roomOf } from './Legend';
import { MarksPlugin } from './MarksPlugin';
import type { PanelProps } from './types';
import { nameOf } from './Values';

// TooltipHoverMode.xAll: all lines at the pointer's time. The enum is declared const, which isolated modules cannot read.
const ALL_AT_X = 1;

// More lines than these make a tooltip that is higher than the screen.
const MOST_ROWS = 20;

export const timeSeriesDefaults = {
  drawStyle: 'line',
  lineInterpolation: 'linear',
  lineWidth: 1,
  fillOpacity: 0,
  gradientMode: 'none',
  barAlignment: 0,
  barWidthFactor: 0.6,
  showPoints: 'auto',
  pointSize: 5,
  spanNulls: false,
  stacking: { mode: 'none', group: 'A' },
  axisPlacement: 'auto',
  axisLabel: '',
  axisColorMode: 'text',
  axisBorderShow: false,
  scaleDistribution: { type: 'linear' },
  axisCenteredZero: false,
  hideFrom: { tooltip: false, viz: false, legend: false },
  thresholdsStyle: { mode: 'off' },
  lineStyle: { fill: 'solid' },
};

export function TimeSeriesPanel({ panel, frames, width, height, range, timeZone, onZoom }: PanelProps) {
  const { eventBus } = usePanelContext();
  const [wanted, setWanted] = useState<ReadonlySet<string>>(new Set());
  const legend = useMemo(() => legendOf(panel.options?.legend), [panel]);
  const box = useMemo(() => roomOf(legend, frames, width, height), [legend, frames, width, height]);
  const picked = useMemo(() => here(wanted, frames), [wanted, frames]);
  const drawn = useMemo(() => onlyPicked(withGaps(frames, range), picked), [frames, range, picked]);
  const chart = (
    <TimeSeries
      frames={drawn}
      width={box.beside ? width - box.width : width}
      height={box.beside ? height : height - box.height}
      timeRange={range}
      timeZone={timeZone}
      legend={NO_LEGEND}
      options={panel.options}
    >
      {(config, aligned) => (
        <>
          <EventBusPlugin config={config} eventBus={eventBus} frame={aligned} />
          <MarksPlugin config={config} />
          <EdgePlugin config={config} />
          <TooltipPlugin2
            config={config}
            hoverMode={ALL_AT_X as never}
            queryZoom={({ from, to }) => onZoom(from, to)}
            clientZoom={false}
            maxWidth={500}
            render={(_plot, indexes) => <Hover frame={aligned} indexes={indexes} />}
          />
        </>
      )}
    </TimeSeries>
  );
  return (
    <div className={box.beside ? 'chart beside' : 'chart'}>
      {chart}
      {box.height > 0 && <Legend options={legend} frames={frames} box={box} picked={picked} onPick={setWanted} />}
    </div>
  );
}

// Grafana's own measures itself first, and the chart would be drawn a second time.
const NO_LEGEND: VizLegendOptions = { displayMode: LegendDisplayMode.Hidden, placement: 'bottom', calcs: [], showLegend: false };

/** Of the picked names those that there are; a refresh may have taken some away. */
function here(picked: ReadonlySet<string>, frames: DataFrame[]): ReadonlySet<string> {
  const names = new Set(frames.flatMap(({ fields }) => fields.map(nameOf)));
  return new Set([...picked].filter((name) => names.has(name)));
}

function onlyPicked(frames: DataFrame[], picked: ReadonlySet<string>): DataFrame[] {
  if (picked.size === 0) {
    return frames;
  }
  const hideFrom = { viz: true, tooltip: true, legend: false };
  return frames.map((frame) => ({
    ...frame,
    fields: frame.fields.map((field) =>
      field.type !== FieldType.number || picked.has(nameOf(field))
        ? field
        : { ...field, config: { ...field.config, custom: { ...field.config.custom, hideFrom } } },
    ),
  }));
}

function EdgePlugin({ config }: { config: UPlotConfigBuilder }) {
  useLayoutEffect(() => config.setPadding(PADDING), [config]);
  return null;
}

/** Where samples are missing, nothing is drawn. TimeSeries sees to that in the first frame only, and joins the others. */
function withGaps(frames: DataFrame[], range: TimeRange): DataFrame[] {
  const [refFieldPseudoMin, refFieldPseudoMax] = [range.from.valueOf(), range.to.valueOf()];
  return frames.map((frame) => applyNullInsertThreshold({ frame, refFieldPseudoMin, refFieldPseudoMax }));
}

function legendOf(options: unknown): VizLegendOptions {
  const wanted = options as VizLegendOptions | undefined;
  return {
    ...wanted,
    displayMode: wanted?.displayMode ?? LegendDisplayMode.List,
    placement: wanted?.placement ?? 'bottom',
    calcs: wanted?.calcs ?? [],
    showLegend: wanted?.showLegend ?? true,
  };
}

function Hover({ frame, indexes }: { frame: DataFrame; indexes: Array<number | null> }) {
  const theme = useTheme2();
  const [time, ...values] = frame.fields;
  const at = indexes[0];
  if (!time || at === null || at === undefined) {
    return null;
  }
  const rows = values
    .map((field, i) => ({ field, value: valueAt(field, indexes[i + 1] ?? at) }))
    .filter(({ field, value }) => field.type === FieldType.number && !isHidden(field) && typeof value === 'number')
    .sort((a, b) => Number(b.value) - Number(a.value));
  const shown: SeriesTableRowProps[] = rows.slice(0, MOST_ROWS).map(({ field, value }) => {
    const display = field.display?.(value);
    return {
      // A line's own colour, not the colour that its value has by the thresholds.
      color: getFieldSeriesColor(field, theme).color,
      label: field.state?.displayName ?? field.name,
      value: display ? formattedValueToString(display) : String(value),
    };
  });
  if (rows.length > MOST_ROWS) {
    shown.push({ label: `and ${rows.length - MOST_ROWS} more`, value: '' });
  }
  const when = time.display?.(time.values[at]);
  return (
    <div className="hover">
      <SeriesTable timestamp={when ? formattedValueToString(when) : ''} series={shown} />
    </div>
  );
}

function isHidden({ config }: Field): boolean {
  return (config.custom as { hideFrom?: { tooltip?: boolean } } | undefined)?.hideFrom?.tooltip ?? false;
}

function valueAt(field: Field, index: number): unknown {
  return field.values[index];
}
