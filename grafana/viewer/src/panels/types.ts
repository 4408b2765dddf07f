import type { DataFrame, TimeRange } from '@grafana/data';
import type { Panel } from '../data/model';

/** What a panel's component gets: frames with the panel's field options already worked in. */
export interface PanelProps {
  panel: Panel;
  frames: DataFrame[];
  width: number;
  height: number;
  range: TimeRange;
  timeZone: string;
  onZoom: (from: number, to: number) => void;
}
