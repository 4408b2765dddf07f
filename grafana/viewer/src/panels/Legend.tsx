import { fieldReducers, getFieldSeriesColor, type DataFrame, type Field } from '@grafana/data';
import { Icon, useTheme2 } from '@grafana/ui';
import type { VizLegendOptions } from '@grafana/schema';
import { useMemo, useState, type MouseEvent } from 'react';
import { calculated, calculation, nameOf, series } from './Values';

// As in styles.css.
const ROW = 22;
const MARGIN = 4;
const GAP = 12;
const DASH = 20;
// Of the panel: the picture is what the panel is for.
const MOST_HEIGHT = 0.4;
const MOST_WIDTH = 0.4;
// Beside a legend on the right, the picture needs some room, too.
const LEAST_WIDTH = 600;

interface Box {
  beside: boolean;
  width: number;
  height: number;
}

/** What the legend may take; known before it is drawn, so that the picture is drawn once. */
export function roomOf(options: VizLegendOptions, frames: DataFrame[], width: number, height: number): Box {
  const fields = inLegend(frames);
  if (!options.showLegend || fields.length === 0) {
    return { beside: false, width: 0, height: 0 };
  }
  if (options.placement === 'right' && width >= LEAST_WIDTH) {
    return { beside: true, width: Math.floor(options.width ?? width * MOST_WIDTH), height };
  }
  const rows = options.displayMode === 'table' ? fields.length + 1 : rowsOf(fields, width);
  const most = Math.max(1, Math.floor((height * MOST_HEIGHT) / ROW));
  return { beside: false, width, height: Math.min(rows, most) * ROW + MARGIN };
}

function inLegend(frames: DataFrame[]): Field[] {
  return series(frames).filter(({ config }) => !(config.custom as { hideFrom?: { legend?: boolean } })?.hideFrom?.legend);
}

const pen = document.createElement('canvas').getContext('2d');

/** How many rows the names fill, one after the other. */
function rowsOf(fields: Field[], width: number): number {
  let rows = 1;
  let left = 0;
  for (const field of fields) {
    if (pen) {
      pen.font = '12px Inter, Helvetica, Arial, sans-serif';
    }
    const wide = Math.min(width, (pen?.measureText(nameOf(field)).width ?? 0) + DASH + GAP);
    if (left > 0 && left + wide > width) {
      rows += 1;
      left = 0;
    }
    left += wide;
  }
  return rows;
}

interface Props {
  options: VizLegendOptions;
  frames: DataFrame[];
  box: Box;
  // The names of those that alone are drawn; none means all.
  picked: ReadonlySet<string>;
  onPick: (picked: ReadonlySet<string>) => void;
}

interface Sorting {
  // A calculation, or "" for the names.
  by: string;
  down: boolean;
}

/** The names of the lines: a click leaves one alone, with Ctrl, Cmd or Shift it adds or takes one. */
export function Legend({ options, frames, box, picked, onPick }: Props) {
  const theme = useTheme2();
  const fields = useMemo(() => inLegend(frames), [frames]);
  const [sorting, setSorting] = useState<Sorting | undefined>(() => initial(options));
  const sorted = useMemo(() => ordered(fields, sorting), [fields, sorting]);

  const pick = (name: string, event: MouseEvent) => {
    const next = new Set(picked);
    if (!(event.ctrlKey || event.metaKey || event.shiftKey)) {
      onPick(picked.size === 1 && picked.has(name) ? new Set() : new Set([name]));
      return;
    }
    if (next.size === 0) {
      fields.forEach((field) => next.add(nameOf(field)));
    }
    if (!next.delete(name)) {
      next.add(name);
    }
    onPick(next);
  };
  const button = (field: Field) => {
    const name = nameOf(field);
    const { lineStyle } = (field.config.custom ?? {}) as { lineStyle?: { fill?: string } };
    return (
      <button
        type="button"
        title={name}
        aria-pressed={picked.has(name)}
        data-off={(picked.size > 0 && !picked.has(name)) || undefined}
        data-testid={`data-testid VizLegend series ${name}`}
        onClick={(event) => pick(name, event)}
      >
        <i
          style={{ borderTopColor: getFieldSeriesColor(field, theme).color }}
          data-dashed={(lineStyle?.fill !== undefined && lineStyle.fill !== 'solid') || undefined}
        />
        <span>{name}</span>
      </button>
    );
  };

  const size = { width: box.width, height: box.height - MARGIN };
  if (options.displayMode !== 'table') {
    return (
      <ul className="legend" aria-label="Legend" style={size}>
        {fields.map((field, i) => (
          <li key={i}>{button(field)}</li>
        ))}
      </ul>
    );
  }
  const columns = [['', 'Name'], ...options.calcs.map((calc) => [calc, fieldReducers.get(calc).name])] as Array<[string, string]>;
  return (
    <div className="legend" style={size}>
      <table>
        <thead>
          <tr>
            {columns.map(([by, title]) => (
              <th key={by} scope="col" aria-sort={sorting?.by !== by ? undefined : sorting.down ? 'descending' : 'ascending'}>
                <button type="button" onClick={() => setSorting(turned(sorting, by))}>
                  {title}
                  {sorting?.by === by && <Icon name={sorting.down ? 'angle-down' : 'angle-up'} size="xs" />}
                </button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {sorted.map((field, i) => (
            <tr key={i}>
              <th scope="row">{button(field)}</th>
              {options.calcs.map((calc) => (
                <td key={calc}>{calculated(field, calc)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

// The file names the column as people see it.
function initial({ sortBy, sortDesc, calcs }: VizLegendOptions): Sorting | undefined {
  const by = sortBy === 'Name' ? '' : calcs.find((calc) => calc === sortBy || fieldReducers.get(calc).name === sortBy);
  return sortBy === undefined || by === undefined ? undefined : { by, down: sortDesc ?? false };
}

/** Numbers from the largest, names from the first; then the other way round; then as they came. */
function turned(now: Sorting | undefined, by: string): Sorting | undefined {
  const first = by !== '';
  if (now?.by !== by) {
    return { by, down: first };
  }
  return now.down === first ? { by, down: !first } : undefined;
}

const alphabet = new Intl.Collator(undefined, { numeric: true });

function ordered(fields: Field[], sorting: Sorting | undefined): Field[] {
  if (!sorting) {
    return fields;
  }
  const { by, down } = sorting;
  const value = (field: Field) => calculation(field, by) ?? Number.NEGATIVE_INFINITY;
  const up = by === '' ? (a: Field, b: Field) => alphabet.compare(nameOf(a), nameOf(b)) : (a: Field, b: Field) => value(a) - value(b);
  return [...fields].sort((a, b) => (down ? up(b, a) : up(a, b)));
}
