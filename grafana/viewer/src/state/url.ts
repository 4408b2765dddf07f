import { useCallback, useEffect, useState } from 'react';
import type { Chosen } from '../data/interpolate';

/** What the address says, in Grafana's own words, so that links made for Grafana work here. */
export interface Place {
  uid: string;
  from?: string;
  to?: string;
  refresh?: string;
  timezone?: string;
  theme?: 'light' | 'dark';
  // The panel that fills the page.
  viewPanel?: number;
  chosen: Chosen;
}

export function readPlace(location: Pick<Location, 'pathname' | 'search'>): Place {
  const uid = /^\/d\/([^/]+)/.exec(location.pathname)?.[1] ?? '';
  const query = new URLSearchParams(location.search);
  const chosen: Chosen = {};
  for (const key of new Set(query.keys())) {
    if (key.startsWith('var-')) {
      chosen[key.slice('var-'.length)] = query.getAll(key);
    }
  }
  const theme = query.get('theme');
  // Grafana 12 writes "panel-3", earlier ones "3".
  const viewPanel = /^(?:panel-)?(\d+)$/.exec(query.get('viewPanel') ?? '')?.[1];
  return {
    uid: decoded(uid),
    from: query.get('from') ?? undefined,
    to: query.get('to') ?? undefined,
    refresh: query.get('refresh') ?? undefined,
    timezone: query.get('timezone') ?? undefined,
    theme: theme === 'light' || theme === 'dark' ? theme : undefined,
    viewPanel: viewPanel === undefined ? undefined : Number(viewPanel),
    chosen,
  };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A lone "%": there is no dashboard of that name, which the page then says.
    return text;
  }
}

export function hrefOf(place: Place): string {
  const query = new URLSearchParams();
  for (const key of ['from', 'to', 'refresh', 'timezone', 'theme', 'viewPanel'] as const) {
    const value = place[key];
    if (value !== undefined) {
      query.set(key, String(value));
    }
  }
  for (const [name, values] of Object.entries(place.chosen)) {
    values.forEach((value) => query.append(`var-${name}`, value));
  }
  const search = query.toString();
  return `/d/${encodeURIComponent(place.uid)}${search ? `?${search}` : ''}`;
}

/** The address as state: changes go into the browser's history, and its back button comes back here. */
export function usePlace(): [Place, (change: Partial<Place>) => void] {
  const [place, setPlace] = useState(() => readPlace(window.location));
  useEffect(() => {
    const onBack = () => setPlace(readPlace(window.location));
    window.addEventListener('popstate', onBack);
    return () => window.removeEventListener('popstate', onBack);
  }, []);
  const go = useCallback((change: Partial<Place>) => {
    const next = { ...readPlace(window.location), ...change };
    window.history.pushState(null, '', hrefOf(next));
    setPlace(next);
  }, []);
  return [place, go];
}
