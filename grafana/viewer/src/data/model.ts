import type { FieldConfigSource } from '@grafana/data';

// The parts of Classic dashboard JSON that the viewer reads. What is not here is ignored.

export interface Target {
  refId: string;
  expr: string;
  legendFormat?: string;
  instant?: boolean;
  format?: 'time_series' | 'table' | 'heatmap';
  hide?: boolean;
}

export interface GridPos {
  x: number;
  y: number;
  w: number;
  h: number;
}

export interface Panel {
  id: number;
  type: string;
  title: string;
  description?: string;
  gridPos: GridPos;
  targets?: Target[];
  fieldConfig?: FieldConfigSource;
  // Each panel type has its own; the component of the type says which it reads.
  options?: Record<string, unknown>;
  transformations?: Array<{ id: string; options: Record<string, unknown>; disabled?: boolean }>;
  interval?: string;
  maxDataPoints?: number;
  collapsed?: boolean;
  // What a folded row holds.
  panels?: Panel[];
  links?: PanelLink[];
}

export interface PanelLink {
  title: string;
  url: string;
  targetBlank?: boolean;
}

export interface Variable {
  name: string;
  label?: string;
  type: string;
  definition?: string;
  query?: unknown;
  regex?: string;
  multi?: boolean;
  includeAll?: boolean;
  allValue?: string;
  current?: { value?: string | string[] };
  hide?: number;
}

export interface Annotation {
  name: string;
  enable: boolean;
  hide?: boolean;
  iconColor: string;
  target?: { expr?: string; interval?: string };
  titleFormat?: string;
  textFormat?: string;
}

export interface DashboardLink {
  // "dashboards": all that carry the tags; "link": one address.
  type: string;
  title: string;
  tags?: string[];
  url?: string;
  tooltip?: string;
  targetBlank?: boolean;
  keepTime?: boolean;
  includeVars?: boolean;
}

export interface Dashboard {
  uid: string;
  title: string;
  description?: string;
  tags?: string[];
  time?: { from: string; to: string };
  refresh?: string;
  links?: DashboardLink[];
  annotations?: { list: Annotation[] };
  templating?: { list: Variable[] };
  panels: Panel[];
}

export interface DashboardSummary {
  uid: string;
  title: string;
  description: string;
  tags: string[];
}

export async function listDashboards(): Promise<DashboardSummary[]> {
  return getJson<DashboardSummary[]>('/api/dashboards');
}

export async function loadDashboard(uid: string): Promise<Dashboard> {
  return getJson<Dashboard>(`/api/dashboards/${encodeURIComponent(uid)}`);
}

// The first time, src/boot.ts has asked already.
async function getJson<T>(path: string): Promise<T> {
  const early = window.early?.[path];
  delete window.early?.[path];
  const response = await (early ?? fetch(path));
  if (!response.ok) {
    throw new Error(`${path} answered ${response.status}: ${(await response.text()).slice(0, 200)}`);
  }
  return (await response.json()) as T;
}
