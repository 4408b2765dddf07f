import { formattedValueToString, getValueFormat, type GrafanaTheme2 } from '@grafana/data';
import { useTheme2 } from '@grafana/ui';
import * as interpolators from 'd3-scale-chromatic';
import { useMemo } from 'react';
import { heatOf, type Bucket } from '../data/buckets';
import type { Lane } from './lanes';
import { LanesChart } from './LanesChart';
import type { PanelProps } from './types';

interface HeatmapOptions {
  color?: { mode?: string; scheme?: string; fill?: string; scale?: string; exponent?: number; steps?: number; reverse?: boolean };
  yAxis?: { unit?: string; decimals?: number };
  cellValues?: { unit?: string; decimals?: number };
  cellGap?: number;
}

const STRIP = 34;

/** Where the observations of a histogram lie, over time: the more, the stronger the colour. */
export function HeatmapPanel({ panel, frames, height, ...rest }: PanelProps) {
  const theme = useTheme2();
  const options = (panel.options ?? {}) as HeatmapOptions;
  const heat = useMemo(() => heatOf(frames), [frames]);
  const colors = useMemo(() => paletteOf(options, theme), [panel, theme]);
  const unit = options.yAxis?.unit ?? panel.fieldConfig?.defaults.unit ?? 'short';
  const bound = (value: number) =>
    Number.isFinite(value) ? formattedValueToString(getValueFormat(unit)(value, options.yAxis?.decimals)) : '∞';
  const count = (value: number) =>
    formattedValueToString(getValueFormat(options.cellValues?.unit ?? 'short')(value, options.cellValues?.decimals));
  const lanes = useMemo<Lane[]>(
    () =>
      heat.buckets.map((bucket) => ({
        name: bound(bucket.low),
        spans: heat.times.flatMap((at, i) => {
          const value = bucket.counts[i];
          if (!value) {
            return [];
          }
          const strength = Math.min(colors.length - 1, Math.floor((value / heat.most) * colors.length));
          // Prometheus' sample at a time counts what came before it.
          return [{ from: at - heat.step, to: at, color: colors[strength] ?? '', text: `${within(bucket, bound)}: ${count(value)}` }];
        }),
      })),
    [heat, colors],
  );
  return (
    <>
      <LanesChart
        {...rest}
        height={height - STRIP}
        lanes={lanes}
        fill={1}
        texts={false}
        atEdge
        hoverText={(_lane, span) => span.text}
      />
      <div className="heat-scale" aria-hidden="true">
        <span>0</span>
        <i style={{ background: `linear-gradient(to right, ${colors.join(', ')})` }} />
        <span>{count(heat.most)}</span>
      </div>
    </>
  );
}

function within({ low, high }: Bucket, bound: (value: number) => string): string {
  return Number.isFinite(high) ? `${bound(low)} to ${bound(high)}` : `over ${bound(low)}`;
}

/** The colours from few to many, as the panel's options name them. */
function paletteOf({ color }: HeatmapOptions, theme: GrafanaTheme2): string[] {
  const steps = Math.max(2, color?.steps ?? 64);
  if (color?.mode === 'opacity') {
    const base = theme.visualization.getColorByName(color.fill ?? 'dark-orange');
    const exponent = color.scale === 'linear' ? 1 : (color.exponent ?? 0.5);
    return Array.from({ length: steps }, (_, i) => {
      const alpha = Math.round(255 * ((i + 1) / steps) ** exponent);
      return `${base.slice(0, 7)}${alpha.toString(16).padStart(2, '0')}`;
    });
  }
  const named = (interpolators as unknown as Record<string, (t: number) => string>)[`interpolate${color?.scheme ?? 'Oranges'}`];
  const interpolate = named ?? interpolators.interpolateOranges;
  // The schemes run from light to dark; on a dark page little must be near to the page's own colour.
  const turned = theme.isDark !== (color?.reverse ?? false);
  return Array.from({ length: steps }, (_, i) => hex(interpolate(turned ? 1 - i / (steps - 1) : i / (steps - 1))));
}

function hex(color: string): string {
  const parts = /^rgb\((\d+), (\d+), (\d+)\)/.exec(color)?.slice(1) ?? [];
  return parts.length === 3 ? `#${parts.map((part) => Number(part).toString(16).padStart(2, '0')).join('')}` : color;
}
