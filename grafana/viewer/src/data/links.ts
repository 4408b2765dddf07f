import { textUtil } from '@grafana/data';
import { hrefOf, type Place } from '../state/url';
import { valueOf, type Chosen } from './interpolate';
import type { DashboardLink, DashboardSummary, PanelLink, Variable } from './model';

/** Where the page is, and what is chosen there: what a link may take along. */
export interface Here {
  place: Place;
  from: string;
  to: string;
  variables: Variable[];
  chosen: Chosen;
}

export interface Link {
  title: string;
  href: string;
  newTab: boolean;
  tooltip?: string;
}

/** The way to another dashboard, with the time and the variables if the file's own link to it says so. */
export function hrefOfDashboard(summary: DashboardSummary, links: DashboardLink[], here: Here): string {
  const link = links.find(({ type, tags }) => type === 'dashboards' && (tags ?? []).every((tag) => summary.tags.includes(tag)));
  const { from, to, timezone, theme, refresh } = here.place;
  const time = (link?.keepTime ?? true) ? { from, to, timezone } : {};
  return hrefOf({ ...time, theme, refresh, uid: summary.uid, chosen: link?.includeVars ? here.chosen : {} });
}

/** The links of the dashboard that are not lists of dashboards: those stand in the page's menu. */
export function linksOf(links: DashboardLink[], here: Here): Link[] {
  return links
    .filter(({ type, url }) => type === 'link' && url)
    .map(({ title, url = '', targetBlank, keepTime, includeVars, tooltip }) => {
      const taken = new URLSearchParams();
      if (keepTime) {
        taken.set('from', here.from);
        taken.set('to', here.to);
      }
      if (includeVars) {
        appendChosen(taken, here.chosen);
      }
      const more = taken.toString();
      const bare = filled(url, here);
      const href = more ? `${bare}${bare.includes('?') ? '&' : '?'}${more}` : bare;
      return { title, href: safe(href), newTab: targetBlank ?? false, tooltip };
    });
}

export function panelLinks(links: PanelLink[] | undefined, here: Here): Link[] {
  return (links ?? []).map(({ title, url, targetBlank }) => {
    return { title: filled(title, here, false), href: safe(filled(url, here)), newTab: targetBlank ?? false };
  });
}

// A file is data: no address of it runs as a script.
function safe(href: string): string {
  return textUtil.sanitizeUrl(href);
}

function appendChosen(query: URLSearchParams, chosen: Chosen): void {
  for (const [name, values] of Object.entries(chosen)) {
    values.forEach((value) => query.append(`var-${name}`, value));
  }
}

function filled(text: string, here: Here, encode = true): string {
  const time = new URLSearchParams({ from: here.from, to: here.to }).toString();
  const all = new URLSearchParams();
  appendChosen(all, here.chosen);
  const fixed = new Map([
    ['__url_time_range', time],
    ['__all_variables', all.toString()],
    ['__from', here.from],
    ['__to', here.to],
  ]);
  return text.replace(/\$(?:(\w+)|\{(\w+)(?::(\w+))?\})/g, (whole, bare: string, braced: string, format?: string) => {
    const name = bare ?? braced;
    const values = here.chosen[name];
    if (fixed.has(name)) {
      return fixed.get(name) ?? '';
    }
    if (values === undefined) {
      return whole;
    }
    if (format === 'queryparam') {
      const query = new URLSearchParams();
      appendChosen(query, { [name]: values });
      return query.toString();
    }
    const variable = here.variables.find((v) => v.name === name);
    const value = variable ? valueOf(variable, values, 'raw') : values.join(',');
    return encode && format !== 'raw' ? encodeURIComponent(value) : value;
  });
}
