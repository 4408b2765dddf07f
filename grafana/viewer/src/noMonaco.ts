// Stands in for the code editor, which @grafana/ui imports and no panel of ours shows.
export default function NoEditor(): null {
  return null;
}
export const Editor = NoEditor;
export const DiffEditor = NoEditor;
export const loader = { config: () => undefined, init: () => Promise.reject(new Error('no code editor here')) };
export const useMonaco = () => null;
export const languages = {};
export const editor = {};
