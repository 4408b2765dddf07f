import {
  type DisplayValueAlignmentFactors,
  type FieldDisplay,
  VizOrientation,
  getDisplayValueAlignmentFactors,
} from '@grafana/data';
import { BarGauge, VizRepeater, useTheme2 } from '@grafana/ui';
import { BarGaugeDisplayMode, BarGaugeNamePlacement, BarGaugeValueMode, type VizTextDisplayOptions } from '@grafana/schema';
import { reduced } from './reduced';
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
}

// Grafana's own.
const defaults = {
  displayMode: BarGaugeDisplayMode.Gradient,
  orientation: VizOrientation.Auto,
  valueMode: BarGaugeValueMode.Color,
  namePlacement: BarGaugeNamePlacement.Auto,
  showUnfilled: true,
  minVizWidth: 8,
  minVizHeight: 16,
  maxVizHeight: 300,
};

export function BarGaugePanel(props: PanelProps) {
  const { panel, frames, width, height } = props;
  const theme = useTheme2();
  const options = { ...defaults, ...panel.options } as BarGaugeOptions;
  const values = () =>
    reduced(props, theme);
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
          alignmentFactors={alignmentFactors && withRoom(alignmentFactors, h, options.text?.titleSize)}
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
      orientation={options.orientation}
    />
  );
}

/**
 * Names are measured in the size that fits the bar, and then drawn in the size that the options say: a longer one keeps
 * the room that they need.
 */
function withRoom(factors: DisplayValueAlignmentFactors, height: number, size?: number): DisplayValueAlignmentFactors {
  const measured = Math.max(height * 0.6, 18) / 1.5;
  const { title = '' } = factors;
  const more = size ? Math.ceil(title.length * Math.max(0, size / measured - 1)) + 1 : 0;
  return { ...factors, title: title + title.slice(0, more) };
}
