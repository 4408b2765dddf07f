import {
  FieldColorModeId,
  ThresholdsMode,
  formattedValueToString,
  VizOrientation,
  type FieldDisplay,
  type GrafanaTheme2,
} from '@grafana/data';
import { VizRepeater, useTheme2 } from '@grafana/ui';
import { reduced } from './reduced';
import { ring } from './svg';
import type { PanelProps } from './types';

interface GaugeOptions {
  orientation?: VizOrientation;
  showThresholdMarkers?: boolean;
}

// A dial from eight o'clock to four o'clock, in turns.
const START = -0.33;
const END = 0.33;
export function GaugePanel(props: PanelProps) {
  const { panel, frames, width, height } = props;
  const theme = useTheme2();
  const options = (panel.options ?? {}) as GaugeOptions;
  const values = () =>
    reduced(props, theme);
  return (
    <VizRepeater<FieldDisplay>
      getValues={values}
      renderValue={({ value, width: w, height: h, count }) => (
        <Dial value={value} width={w} height={h} named={count > 1} markers={options.showThresholdMarkers !== false} theme={theme} />
      )}
      width={width}
      height={height}
      source={frames}
      itemSpacing={8}
      renderCounter={0}
      autoGrid
      orientation={options.orientation ?? VizOrientation.Auto}
    />
  );
}

interface DialProps {
  value: FieldDisplay;
  width: number;
  height: number;
  // Alone, the panel's title is its name.
  named: boolean;
  markers: boolean;
  theme: GrafanaTheme2;
}

function Dial({ value, width, height, named, markers, theme }: DialProps) {
  const { display, field } = value;
  const name = named ? 18 : 0;
  // A dial's lower quarter is open: it is as high as 0.74 of its width.
  const radius = Math.max(8, Math.min(width / 2, (height - name) / 1.5) - 2);
  const [x, y] = [width / 2, (height - name) / 2 + radius * 0.25];
  const [low, high] = [field.min ?? 0, field.max ?? 100];
  const share = Math.min(1, Math.max(0, (display.numeric - low) / (high - low || 1)));
  const at = (part: number) => START + (END - START) * part;
  const thick = radius * 0.22;
  const edge = markers ? radius * 0.06 : 0;
  const text = formattedValueToString(display);
  const size = Math.max(10, Math.min(radius * 0.45, (radius * 2.1) / Math.max(3, text.length)));
  return (
    <svg width={width} height={height} role="img" aria-label={`${named ? `${display.title ?? ''}: ` : ''}${text}`}>
      <path d={ring(x, y, radius - edge - thick, radius - edge - 2, START, END)} fill={theme.colors.background.secondary} />
      {share > 0 && (
        <path d={ring(x, y, radius - edge - thick, radius - edge - 2, START, at(share))} fill={display.color ?? theme.colors.primary.main} />
      )}
      {markers &&
        zones(field, low, high, theme).map(({ from, to, color }) => (
          <path key={from} d={ring(x, y, radius - edge, radius, at(from), at(to))} fill={color} />
        ))}
      <text x={x} y={y + size * 0.3} textAnchor="middle" fontSize={size} fontWeight={500} fill={theme.colors.text.primary}>
        {text}
      </text>
      {named && (
        <text x={x} y={height - 4} textAnchor="middle" fontSize={12} fill={theme.colors.text.secondary}>
          {display.title}
        </text>
      )}
    </svg>
  );
}

/** The parts of the dial between two thresholds, 0 to 1. */
function zones(field: FieldDisplay['field'], low: number, high: number, theme: GrafanaTheme2) {
  const { thresholds, color } = field;
  if (color?.mode !== FieldColorModeId.Thresholds || !thresholds) {
    return [];
  }
  const share = (value: number) => {
    const part = thresholds.mode === ThresholdsMode.Percentage ? value / 100 : (value - low) / (high - low || 1);
    return Math.min(1, Math.max(0, part));
  };
  return thresholds.steps
    .map((step, i) => ({
      from: share(step.value ?? Number.NEGATIVE_INFINITY),
      to: share(thresholds.steps[i + 1]?.value ?? Number.POSITIVE_INFINITY),
      color: theme.visualization.getColorByName(step.color),
    }))
    .filter(({ from, to }) => to > from);
}
