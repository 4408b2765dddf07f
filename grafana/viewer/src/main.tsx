import './publicPath';
import 'uplot/dist/uPlot.min.css';
import './styles.css';
import { initPluginTranslations } from '@grafana/i18n';
import { createRoot } from 'react-dom/client';
import { App } from './App';
import { registerTransformers } from './data/transform';

// A font that comes late changes the sizes of numbers that were already fitted to their tiles, for good.
async function loadFonts(): Promise<void> {
  const faces = [
    ['Regular', '400'],
    ['Medium', '500'],
  ].map(([name, weight]) => new FontFace('Inter', `url(/fonts/inter/Inter-${name}.woff2)`, { weight }));
  const loaded = await Promise.allSettled(faces.map((face) => face.load()));
  for (const result of loaded) {
    if (result.status === 'fulfilled') {
      document.fonts.add(result.value);
    }
  }
}

async function start(): Promise<void> {
  const root = document.getElementById('root');
  if (!root) {
    throw new Error('index.html has no element with the id "root"');
  }
  registerTransformers();
  await Promise.all([initPluginTranslations('llmvitals'), loadFonts()]);
  createRoot(root).render(<App />);
}

void start();
