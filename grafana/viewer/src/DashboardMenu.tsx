import { Icon } from '@grafana/ui';
import { useRef, useState } from 'react';
import type { DashboardSummary } from './data/model';
import { useClosing } from './state/hooks';

interface Props {
  title: string;
  uid: string;
  dashboards: DashboardSummary[];
  hrefOf: (dashboard: DashboardSummary) => string;
  onGo: (href: string) => void;
}

/** The dashboard's name, and under it the way to all the others. */
export function DashboardMenu({ title, uid, dashboards, hrefOf, onGo }: Props) {
  const [open, setOpen] = useState(false);
  const [asked, setAsked] = useState('');
  const ref = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const close = (byKey: boolean) => {
    setOpen(false);
    setAsked('');
    if (byKey) {
      button.current?.focus();
    }
  };
  useClosing(ref, open, close);
  const words = asked.toLowerCase().split(/\s+/);
  const found = dashboards.filter((d) => words.every((word) => `${d.title} ${d.description}`.toLowerCase().includes(word)));

  return (
    <div ref={ref} className="dashboards">
      <h1>
        <button
          ref={button}
          type="button"
          aria-expanded={open}
          aria-controls="dashboards"
          title="Other dashboards"
          onClick={() => (open ? close(true) : setOpen(true))}
        >
          {title || 'Dashboards'}
          <Icon name="angle-down" />
        </button>
      </h1>
      {open && (
        <nav id="dashboards" aria-label="Dashboards" data-overlay>
          <input
            autoFocus
            type="search"
            value={asked}
            placeholder="Search"
            aria-label="Search dashboards"
            onChange={(event) => setAsked(event.target.value)}
          />
          <ul>
            {found.map((dashboard) => (
              <li key={dashboard.uid}>
                <a
                  href={hrefOf(dashboard)}
                  aria-current={dashboard.uid === uid ? 'page' : undefined}
                  onClick={(event) => {
                    if (!event.metaKey && !event.ctrlKey && !event.shiftKey) {
                      event.preventDefault();
                      close(true);
                      onGo(hrefOf(dashboard));
                    }
                  }}
                >
                  <span>{shortTitle(dashboard.title)}</span>
                  <small>{dashboard.description.split(/(?<=[.?!])\s/)[0]}</small>
                </a>
              </li>
            ))}
          </ul>
          {found.length === 0 && <p>No dashboard has these words.</p>}
        </nav>
      )}
    </div>
  );
}

/** "llmvitals / Overview" without the part that all have. */
export function shortTitle(title: string): string {
  return title.replace(/^.*\/\s*/, '');
}
