import { TableNG } from '@grafana/ui/unstable';
import type { TableCellHeight } from '@grafana/schema';
import { fieldConfigOf } from '../data/fieldConfig';
import type { PanelProps } from './types';

export const tableDefaults = {
  align: 'auto',
  cellOptions: { type: 'auto' },
  inspect: false,
  filterable: false,
};

interface TableOptions {
  cellHeight?: TableCellHeight;
  showHeader?: boolean;
  sortBy?: Array<{ displayName: string; desc?: boolean }>;
}

export function TablePanel({ panel, frames, width, height, range }: PanelProps) {
  const options = (panel.options ?? {}) as TableOptions;
  const [data] = frames;
  if (!data) {
    return null;
  }
  return (
    <TableNG
      ariaLabel={panel.title}
      data={data}
      width={width}
      height={height}
      noHeader={options.showHeader === false}
      initialSortBy={options.sortBy}
      cellHeight={options.cellHeight}
      timeRange={range}
      fieldConfig={fieldConfigOf(panel, tableDefaults)}
      resizable
    />
  );
}
