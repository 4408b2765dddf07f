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
  chosen: Chosen;
}

export function readPlace(location: Location): Place {
  const uid = /^\/d\/([^/]+)/.exec(location.pathname)?.[1] ?? '';
  const query = new URLSearchParams(location.search);
  const chosen: Chosen = {};
  for (const key of new Set(query.keys())) {
    if (key.startsWith('var-')) {
      chosen[key.slice('var-'.length)] = query.getAll(key);
    }
  }
  const theme = query.get('theme');
  return {
    uid: decodeURIComponent(uid),
    from: query.get('from') ?? undefined,
    to: query.get('to') ?? undefined,
    refresh: query.get('refresh') ?? undefined,
    timezone: query.get('timezone') ?? undefined,
    theme: theme === 'light' || theme === 'dark' ? theme : undefined,
    chosen,
  };
}

export function hrefOf(place: Place): string {
  const query = new URLSearchParams();
  for (const key of ['from', 'to', 'refresh', 'timezone', 'theme'] as const) {
    const value = place[key];
    if (value !== undefined) {
      query.set(key, value);
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
