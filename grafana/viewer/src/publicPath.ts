// @grafana/ui reads this when it loads its first icon or font; so this module is imported before any of theirs.
declare global {
  interface Window {
    __grafana_public_path__?: string;
  }
}

window.__grafana_public_path__ = '/';

export {};
