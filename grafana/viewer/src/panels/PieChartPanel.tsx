import { formattedValueToString } from '@grafana/data';
import type { LegendPlacement } from '@grafana/schema';
import { LegendDisplayMode, VizLayout, VizLegend, useTheme2, type VizLegendItem } from '@grafana/ui';
import { reduced } from './reduced';
import { ring } from './svg';
import type { PanelProps } from './types';

interface PieOptions {
  pieType?: 'pie' | 'donut';
  legend?: { displayMode?: LegendDisplayMode; placement?: LegendPlacement; showLegend?: boolean; values?: string[] };
}

/** Shares of a whole. What is zero or below has none. */
export function PieChartPanel(props: PanelProps) {
  const { panel, width, height } = props;
  const theme = useTheme2();
  const { pieType, legend } = (panel.options ?? {}) as PieOptions;
  const slices = reduced(props, theme)
    .map(({ display }) => display)
    .filter(({ numeric }) => numeric > 0)
    .sort((a, b) => b.numeric - a.numeric);
  const whole = slices.reduce((sum, { numeric }) => sum + numeric, 0);
  let turn = 0;
  const parts = slices.map((display) => {
    const share = display.numeric / whole;
    const from = turn;
    turn += share;
    return { display, share, from, to: turn, name: display.title ?? '' };
  });
  const percent = (share: number) => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
  const items: VizLegendItem[] = parts.map(({ display, share, name }) => ({
    label: name,
    color: display.color,
    yAxis: 1,
    getDisplayValues: () =>
      (legend?.values ?? []).map((kind) =>
        kind === 'percent' ? { numeric: share, text: percent(share), title: 'Percent' } : { ...display, title: 'Value' },
      ),
  }));
  const placement = legend?.placement ?? 'right';
  const shown = legend?.showLegend !== false && items.length > 0;
  return (
    <VizLayout
      width={width}
      height={height}
      legend={
        shown ? (
          <VizLayout.Legend placement={placement} maxHeight="35%" maxWidth="50%">
            <VizLegend items={items} placement={placement} displayMode={legend?.displayMode ?? LegendDisplayMode.List} readonly />
          </VizLayout.Legend>
        ) : null
      }
    >
      {(w, h) => {
        const radius = Math.max(8, Math.min(w, h) / 2 - 4);
        return (
          <svg width={w} height={h} role="img" aria-label={parts.map(({ name, share }) => `${name} ${percent(share)}`).join(', ')}>
            {parts.map(({ display, share, from, to, name }) => (
              <path
                key={name}
                d={ring(w / 2, h / 2, pieType === 'donut' ? radius * 0.6 : 0, radius, from, to)}
                fill={display.color}
                stroke={theme.colors.background.primary}
                strokeWidth={parts.length > 1 ? 2 : 0}
              >
                <title>{`${name}: ${formattedValueToString(display)} (${percent(share)})`}</title>
              </path>
            ))}
          </svg>
        );
      }}
    </VizLayout>
  );
}
