import { dateTime, type TimeRange } from '@grafana/data';
import { IconButton, MultiCombobox, RefreshPicker, TimeRangePicker, type ComboboxOption } from '@grafana/ui';
import { ALL, type Chosen } from './data/interpolate';
import type { DashboardSummary, Variable } from './data/model';

interface Props {
  dashboards: DashboardSummary[];
  uid: string;
  hrefOfDashboard: (uid: string) => string;
  onDashboard: (uid: string) => void;
  variables: Variable[];
  options: Record<string, string[]>;
  chosen: Chosen;
  onChoose: (name: string, values: string[]) => void;
  range: TimeRange;
  timeZone: string;
  onRange: (range: TimeRange) => void;
  onTimeZone: (timeZone: string) => void;
  refresh: string;
  onRefresh: () => void;
  onRefreshInterval: (interval: string) => void;
  dark: boolean;
  onTheme: () => void;
}

export function Toolbar(props: Props) {
  return (
    <header className="toolbar">
      <div className="bar">
        <span className="brand">llmvitals</span>
        <nav aria-label="Dashboards">
          {props.dashboards.map(({ uid, title, description }) => (
            <a
              key={uid}
              href={props.hrefOfDashboard(uid)}
              title={description}
              aria-current={uid === props.uid ? 'page' : undefined}
              onClick={(event) => {
                if (!event.metaKey && !event.ctrlKey) {
                  event.preventDefault();
                  props.onDashboard(uid);
                }
              }}
            >
              {title.replace(/^.*\/\s*/, '')}
            </a>
          ))}
        </nav>
        <div className="spacer" />
        <TimeRangePicker
          value={props.range}
          timeZone={props.timeZone}
          onChange={props.onRange}
          onChangeTimeZone={props.onTimeZone}
          onMoveBackward={() => props.onRange(moved(props.range, -0.5))}
          onMoveForward={() => props.onRange(moved(props.range, 0.5))}
          onZoom={() => props.onRange(zoomed(props.range))}
        />
        <RefreshPicker
          value={props.refresh}
          intervals={['5s', '10s', '30s', '1m', '5m']}
          onRefresh={props.onRefresh}
          onIntervalChanged={props.onRefreshInterval}
        />
        <IconButton
          name="adjust-circle"
          tooltip={props.dark ? 'Light theme' : 'Dark theme'}
          size="lg"
          onClick={props.onTheme}
        />
      </div>
      <div className="bar variables">
        {props.variables.map((variable) => (
          <div key={variable.name} className="variable">
            <label htmlFor={`variable-${variable.name}`}>{variable.label ?? variable.name}</label>
            <MultiCombobox
              id={`variable-${variable.name}`}
              width="auto"
              minWidth={16}
              maxWidth={50}
              options={optionsOf(variable, props.options[variable.name] ?? [])}
              value={props.chosen[variable.name] ?? [ALL]}
              onChange={(picked) => props.onChoose(variable.name, settle(picked, props.chosen[variable.name] ?? [ALL]))}
            />
          </div>
        ))}
      </div>
    </header>
  );
}

function optionsOf(variable: Variable, values: string[]): ComboboxOption[] {
  const all = variable.includeAll ? [{ label: 'All', value: ALL }] : [];
  return [...all, ...values.map((value) => ({ label: value, value }))];
}

// "All" and single values exclude each other; the last pick decides.
function settle(picked: ComboboxOption[], before: string[]): string[] {
  const values = picked.map(({ value }) => value);
  if (values.length === 0 || (values.includes(ALL) && !before.includes(ALL))) {
    return [ALL];
  }
  return values.filter((value) => value !== ALL);
}

function moved({ from, to }: TimeRange, by: number): TimeRange {
  const delta = (to.valueOf() - from.valueOf()) * by;
  return absolute(from.valueOf() + delta, to.valueOf() + delta);
}

function zoomed({ from, to }: TimeRange): TimeRange {
  const half = (to.valueOf() - from.valueOf()) / 2;
  return absolute(from.valueOf() - half, to.valueOf() + half);
}

export function absolute(from: number, to: number): TimeRange {
  const ends = { from: dateTime(Math.round(from)), to: dateTime(Math.round(to)) };
  return { ...ends, raw: ends };
}
