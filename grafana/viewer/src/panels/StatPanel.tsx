import {
  type DisplayValueAlignmentFactors,
  type FieldDisplay,
  VizOrientation,
  getDisplayValueAlignmentFactors,
} from '@grafana/data';
import {
  BigValue,
  BigValueColorMode,
  BigValueGraphMode,
  BigValueJustifyMode,
  BigValueTextMode,
  VizRepeater,
  useTheme2,
} from '@grafana/ui';
import type { VizTextDisplayOptions } from '@grafana/schema';
import { reduced } from './reduced';
import type { PanelProps } from './types';

interface StatOptions {
  colorMode: BigValueColorMode;
  graphMode: BigValueGraphMode;
  justifyMode: BigValueJustifyMode;
  textMode: BigValueTextMode;
  orientation: VizOrientation;
  wideLayout: boolean;
  text?: VizTextDisplayOptions;
}

// Grafana's own.
const defaults = {
  colorMode: BigValueColorMode.Value,
  graphMode: BigValueGraphMode.Area,
  justifyMode: BigValueJustifyMode.Auto,
  textMode: BigValueTextMode.Auto,
  orientation: VizOrientation.Auto,
  wideLayout: true,
};

export function StatPanel(props: PanelProps) {
  const { panel, frames, width, height, range } = props;
  const theme = useTheme2();
  const options = { ...defaults, ...panel.options } as StatOptions;
  const values = () =>
    reduced(props, theme, options.graphMode !== BigValueGraphMode.None).map((value) => ({
      ...value,
      // The line behind the number begins where the picture begins, also when the series is younger.
      sparkline: value.sparkline && { ...value.sparkline, timeRange: range },
    }));
  return (
    <VizRepeater<FieldDisplay, DisplayValueAlignmentFactors>
      getValues={values}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={({ value, width: w, height: h, count, alignmentFactors }) => (
        <BigValue
          value={value.display}
          sparkline={value.sparkline}
          width={w}
          height={h}
          count={count}
          colorMode={options.colorMode}
          graphMode={options.graphMode}
          justifyMode={options.justifyMode}
          textMode={options.textMode}
          text={options.text}
          alignmentFactors={alignmentFactors}
          disableWideLayout={!options.wideLayout}
          theme={theme}
        />
      )}
      width={width}
      height={height}
      source={frames}
      itemSpacing={3}
      renderCounter={0}
      autoGrid
      orientation={options.orientation}
    />
  );
}
