import {
  type DisplayValueAlignmentFactors,
  type FieldDisplay,
  VizOrientation,
  getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
  type ReduceDataOptions,
} from '@grafana/data';
import { BarGauge, VizRepeater, useTheme2 } from '@grafana/ui';
import type { BarGaugeDisplayMode, BarGaugeNamePlacement, BarGaugeValueMode, VizTextDisplayOptions } from '@grafana/schema';
import { fieldConfigOf } from '../data/fieldConfig';
import type { PanelProps } from './types';

interface BarGaugeOptions {
  displayMode: BarGaugeDisplayMode;
  orientation: VizOrientation;
  valueMode: BarGaugeValueMode;
  namePlacement: BarGaugeNamePlacement;
  showUnfilled: boolean;
  minVizWidth: number;
  minVizHeight: number;
  maxVizHeight: number;
  text?: VizTextDisplayOptions;
  reduceOptions: ReduceDataOptions;
}

export function BarGaugePanel({ panel, frames, width, height, timeZone }: PanelProps) {
  const theme = useTheme2();
  const options = panel.options as unknown as BarGaugeOptions;
  const values = () =>
    getFieldDisplayValues({
      fieldConfig: fieldConfigOf(panel),
      reduceOptions: options.reduceOptions,
      replaceVariables: (text) => text,
      theme,
      data: frames,
      timeZone,
    });
  return (
    <VizRepeater<FieldDisplay, DisplayValueAlignmentFactors>
      getValues={values}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={({ value, width: w, height: h, orientation, alignmentFactors, count }) => (
        <BarGauge
          value={value.display}
          field={value.field}
          display={value.view?.getFieldDisplayProcessor(value.colIndex ?? 0)}
          width={w}
          height={h}
          orientation={orientation}
          displayMode={options.displayMode}
          valueDisplayMode={options.valueMode}
          namePlacement={options.namePlacement}
          showUnfilled={options.showUnfilled}
          alignmentFactors={alignmentFactors}
          isOverflow={count * h > height}
          text={options.text}
          itemSpacing={8}
          lcdCellWidth={12}
          theme={theme}
        />
      )}
      width={width}
      height={height}
      source={frames}
      renderCounter={0}
      minVizWidth={options.minVizWidth}
      minVizHeight={options.minVizHeight}
      maxVizHeight={options.maxVizHeight}
      orientation={options.orientation ?? VizOrientation.Horizontal}
    />
  );
}
