import { copyFileSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { defineConfig, type Plugin } from 'vite';

const here = import.meta.dirname;
const modules = join(here, 'node_modules');

// What @grafana/ui fetches at run time and no import names: icons by path, and fonts that its package leaves out.
function grafanaAssets(): Plugin {
  return {
    name: 'grafana-assets',
    apply: 'build',
    closeBundle() {
      const dist = join(here, 'dist');
      cpSync(join(modules, '@grafana/ui/dist/public/img/icons'), join(dist, 'build/img/icons'), { recursive: true });
      mirrorIcon(join(dist, 'build/img/icons/unicons'));
      mkdirSync(join(dist, 'fonts/inter'), { recursive: true });
      for (const [weight, name] of [['400', 'Regular'], ['500', 'Medium']]) {
        copyFileSync(
          join(modules, `@fontsource/inter/files/inter-latin-${weight}-normal.woff2`),
          join(dist, `fonts/inter/Inter-${name}.woff2`),
        );
      }
    },
  };
}

// The time picker's "back" button asks for an icon that the package lacks; its "forward" twin is there.
function mirrorIcon(folder: string): void {
  const right = readFileSync(join(folder, 'angle-double-right.svg'), 'utf8');
  const left = right.replace(/(<svg[^>]*>)([\s\S]*)<\/svg>/, '$1<g transform="translate(24 0) scale(-1 1)">$2</g></svg>');
  writeFileSync(join(folder, 'angle-double-left.svg'), left);
}

export default defineConfig({
  base: '/',
  plugins: [grafanaAssets()],
  resolve: {
    alias: {
      // The code editor is 2.8 MB and nothing here edits code.
      '@monaco-editor/react': join(here, 'src/noMonaco.ts'),
      'monaco-editor': join(here, 'src/noMonaco.ts'),
    },
  },
  esbuild: { jsx: 'automatic' },
  build: { chunkSizeWarningLimit: 4000, reportCompressedSize: true, sourcemap: false },
});
