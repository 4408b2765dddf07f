import { copyFileSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
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
      for (const [file, name] of [['400-normal', 'Regular'], ['500-normal', 'Medium'], ['400-italic', 'Italic']]) {
        copyFileSync(
          join(modules, `@fontsource/inter/files/inter-latin-${file}.woff2`),
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

// Before everything else, and not as a module, which would wait for the whole page to be read.
function bootFirst(): Plugin {
  return {
    name: 'boot-first',
    apply: 'build',
    transformIndexHtml: {
      order: 'post',
      handler(_html, { bundle }) {
        const boot = Object.values(bundle ?? {}).find((file) => file.type === 'chunk' && file.name === 'boot');
        if (boot?.type !== 'chunk' || boot.imports.length > 0 || boot.exports.length > 0) {
          throw new Error('src/boot.ts stands alone: it can neither import nor export');
        }
        return [{ tag: 'script', attrs: { src: `/${boot.fileName}` }, injectTo: 'head-prepend' }];
      },
    },
  };
}

// The server sends these as they are to who can read them: to compress megabytes at each request would take longer.
function compressed(): Plugin {
  return {
    name: 'compressed',
    apply: 'build',
    writeBundle(options, bundle) {
      for (const file of Object.values(bundle)) {
        const content = Buffer.from(file.type === 'chunk' ? file.code : file.source);
        if (file.fileName.startsWith('assets/') && content.length > 10_000) {
          writeFileSync(join(options.dir ?? '', `${file.fileName}.gz`), gzipSync(content, { level: 9 }));
        }
      }
    },
  };
}

interface Patch {
  file: string;
  from: RegExp;
  to: string;
}

// Grafana compiles loops over a table's rows from text, for speed. A page that may not compile text is worth more: the
// same loops, written out. A filter by an expression, which no column of ours offers, is refused.
const patches: Patch[] = [
  {
    file: '@grafana/ui/dist/esm/components/Table/TableNG/utils.mjs',
    from: /const fnBody = `[\s\S]*?return convert\(frame, nestedFramesFieldName\);/,
    to: `const names = frame.fields.map((field) => getDisplayName(field));
  const rows = [];
  for (let i = 0; i < frame.length; i++) {
    const row = { __depth: 0, __index: i };
    frame.fields.forEach((field, at) => { row[names[at]] = field.values[i]; });
    rows.push(row);
    const child = hasNestedFrames ? row[nestedFramesFieldName] : undefined;
    if (child) { rows.push({ __depth: 1, __index: i, data: child[0] }); }
  }
  return rows;`,
  },
  {
    file: '@grafana/data/dist/esm/transformations/transformers/joinDataFrames.mjs',
    from: /let outFieldsTpl = [\s\S]*?let joined = materialize\([^)]*\);/,
    to: `let joined = Array.from({ length: ltable.length + rtable.length - 1 }, () => Array(count));
    let rowIdx = 0;
    const copy = (lidx, ridx) => {
      ltable.forEach((column, c) => {
        joined[c][rowIdx] = lidx >= 0 ? column[lidx] : c === 0 ? rtable[0][ridx] : null;
      });
      rtable.slice(1).forEach((column, c) => {
        joined[ltable.length + c][rowIdx] = ridx >= 0 ? column[ridx] : null;
      });
      rowIdx++;
    };
    matched.forEach(([lidx, ridxs]) => ridxs.forEach((ridx) => copy(lidx, ridx)));
    unmatchedLeft.forEach((lidx) => copy(lidx, -1));
    unmatchedRight.forEach((ridx) => copy(-1, ridx));`,
  },
  ...['TableNG/Filter', 'TableRT'].map((folder) => ({
    file: `@grafana/ui/dist/esm/components/Table/${folder}/FilterList.mjs`,
    from: /const fnc = new Function\([^\n]*\);/,
    to: 'const fnc = () => false;',
  })),
];

function noCompiledText(): Plugin {
  return {
    name: 'no-compiled-text',
    enforce: 'pre',
    transform(code, id) {
      const patch = patches.find(({ file }) => id.endsWith(`/node_modules/${file}`));
      if (!patch) {
        return null;
      }
      if (!patch.from.test(code)) {
        this.error(`${patch.file} is not what it was: the content security policy forbids what it may compile`);
      }
      return { code: code.replace(patch.from, () => patch.to), map: null };
    },
    generateBundle(_options, bundle) {
      for (const chunk of Object.values(bundle)) {
        if (chunk.type === 'chunk' && /new Function\(|\beval\(/.test(chunk.code)) {
          this.error(`${chunk.fileName} compiles text, which the content security policy forbids`);
        }
      }
    },
  };
}

export default defineConfig({
  base: '/',
  plugins: [noCompiledText(), bootFirst(), grafanaAssets(), compressed()],
  resolve: {
    alias: {
      // The code editor is 2.8 MB and nothing here edits code.
      '@monaco-editor/react': join(here, 'src/noMonaco.ts'),
      'monaco-editor': join(here, 'src/noMonaco.ts'),
    },
  },
  esbuild: { jsx: 'automatic' },
  build: {
    chunkSizeWarningLimit: 4000,
    reportCompressedSize: true,
    sourcemap: false,
    rollupOptions: { input: { index: join(here, 'index.html'), boot: join(here, 'src/boot.ts') } },
  },
});
