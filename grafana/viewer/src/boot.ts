// Runs while the page's own script is still on its way: the skeleton gets its colours, and what the script will ask for
// first is asked now. It imports nothing, so that there is nothing else to wait for.

declare global {
  interface Window {
    // Answers by path, for who asks first.
    early?: Record<string, Promise<Response>>;
  }
}

const wanted = new URLSearchParams(location.search).get('theme') ?? localStorage.getItem('llmvitals.theme');
document.documentElement.className = wanted === 'light' ? 'early-light' : 'early-dark';

const uid = /^\/d\/([^/]+)/.exec(location.pathname)?.[1];
const paths = ['/api/dashboards', ...(uid ? [`/api/dashboards/${uid}`] : [])];
window.early = Object.fromEntries(
  paths.map((path) => {
    const answer = fetch(path);
    // Who takes it is told; before that it is nobody's error.
    answer.catch(() => undefined);
    return [path, answer];
  }),
);

export {};
