import { renderTextPanelMarkdown } from '@grafana/data';
import type { PanelProps } from './types';

export function TextPanel({ panel }: PanelProps) {
  const { content = '', mode = 'markdown' } = (panel.options ?? {}) as { content?: string; mode?: string };
  if (mode !== 'markdown') {
    return <pre>{content}</pre>;
  }
  // It sanitises what it renders.
  return <div className="markdown-html" dangerouslySetInnerHTML={{ __html: renderTextPanelMarkdown(content) }} />;
}
