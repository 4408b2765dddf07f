import { dateTime, type TimeRange } from '@grafana/data';
import { IconButton, RefreshPicker, TimeRangePicker } from '@grafana/ui';
import type { ReactNode } from 'react';

interface Props {
  // What the page shows, and the choices of the dashboard.
  title: ReactNode;
  choices: ReactNode;
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
      <a className="skip" href="#panels">
        Skip to the panels
      </a>
      <div className="bar">
        {props.title}
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
          tooltip="Refresh now"
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
      {props.choices}
    </header>
  );
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
