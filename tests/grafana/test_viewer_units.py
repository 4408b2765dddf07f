"""The viewer's modules that need no page, bundled and run in Node.js."""

import json
import subprocess

import pytest
from tests.grafana.queries import ROOT

VIEWER = ROOT / "grafana" / "viewer"


@pytest.fixture(scope="module", name="run")
def _run(dist, tmp_path_factory):
    """Runs a piece of TypeScript that imports from the sources, and gives what it prints as JSON."""
    folder = tmp_path_factory.mktemp("units")

    def run(script):
        bundle = [VIEWER / "node_modules/.bin/esbuild", "--bundle", "--platform=node", "--format=esm"]
        code = f"const print = (x: unknown) => console.log(JSON.stringify(x));\n{script}"
        made = subprocess.run(
            [*bundle, "--loader=ts"], input=code, cwd=VIEWER / "src", capture_output=True, text=True, check=False
        )
        assert 0 == made.returncode, made.stderr
        (folder / "run.mjs").write_text(made.stdout)
        done = subprocess.run(["node", folder / "run.mjs"], capture_output=True, text=True, check=False, timeout=30)
        assert 0 == done.returncode, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.stack
def test_six_questions_at_once_equal_ones_once_and_none_that_nobody_wants(run):
    """The seventh waits for the first; taken back, a question is aborted, or never sent if it still waits."""
    result = run("""
        import { Asker } from './data/asker';
        const asker = new Asker(6);
        const ends: Array<() => void> = [];
        const sent: string[] = [];
        const aborted: string[] = [];
        let here = 0, most = 0;
        const ask = (key: string, signal?: AbortSignal) => asker.ask(key, (mine) => {
          sent.push(key);
          most = Math.max(most, ++here);
          return new Promise((resolve, reject) => {
            ends.push(() => { here--; resolve(key); });
            mine.addEventListener('abort', () => { here--; aborted.push(key); reject(mine.reason); });
          });
        }, signal).catch((e) => e.name);
        const turn = () => new Promise((go) => setTimeout(go));
        const first = new AbortController(), late = new AbortController();
        const answers = ['a', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map((key) =>
          ask(key, key === 'b' ? first.signal : key === 'g' ? late.signal : undefined));
        await turn();
        late.abort();
        first.abort();
        await turn();
        while (ends.length > 0) { ends.shift()!(); await turn(); }
        answers.push(ask('a'));
        print({ sent, aborted, most, answers: await Promise.all(answers) });
        process.exit(0);
    """)

    answers = ["a", "a", "AbortError", "c", "d", "e", "f", "AbortError", "h", "a"]
    assert {"sent": list("abcdefh"), "aborted": ["b"], "most": 6, "answers": answers} == result


@pytest.mark.stack
def test_what_is_on_the_screen_asks_first(run):
    """The rest waits until that is there, or it is scrolled to: then what lies on all, and four from the top."""
    result = run("""
        import { Order } from './state/order';
        (globalThis as any).window = { innerHeight: 900 };
        const order = new Order();
        const begun: string[] = [];
        const ends: Record<string, () => void> = {};
        const tops: Record<string, number> =
          { low: 1000, seen: 100, left: 2000, lower: 3000, e: 4000, f: 5000, g: 6000 };
        const abort = new AbortController();
        const ask = (name: string, signal = new AbortController().signal) => {
          const element = { getBoundingClientRect: () => ({ top: tops[name], bottom: tops[name]! + 50 }) } as Element;
          const work = () => { begun.push(name); return new Promise<void>((end) => { ends[name] = end; }); };
          order.run(name === 'all' ? null : element, work, signal).catch(() => begun.push(`not ${name}`));
        };
        const turn = () => new Promise((go) => setTimeout(go));
        Object.keys(tops).forEach((name) => ask(name, name === 'left' ? abort.signal : undefined));
        ask('all');
        await turn();
        abort.abort();
        tops.lower = 300;
        order.look();
        await turn();
        const before = [...begun];
        ends.seen!();
        ends.lower!();
        await turn();
        print([before, begun.slice(before.length)]);
    """)

    assert [["seen", "lower", "not left"], ["all", "low", "e", "f"]] == result


@pytest.mark.stack
@pytest.mark.parametrize(
    ("expr", "names"),
    [
        ('sum by (le, job) (rate(a_bucket{x="y{z}"}[5m])) / on (job) group_left () b', ["a_bucket", "b"]),
        ("up and on (job) (job:c:rate5m > 1e3) or vector(0)", ["up", "job:c:rate5m"]),
        ('label_replace(d offset 1h, "k", "$1", "l", "(.*)") unless ALERTS', ["d", "ALERTS"]),
        ("histogram_quantile(0.95, sum(e) without (pod))", ["e"]),
    ],
)
def test_the_metrics_of_an_expression_are_found(run, expr, names):
    """Labels, functions, strings and words of PromQL are none; an empty panel blames no other."""
    assert names == run(f"import {{ metricNames }} from './data/whyEmpty'; print(metricNames({json.dumps(expr)}));")


@pytest.mark.stack
def test_variables_stand_as_prometheus_needs_them(run):
    """Several values are a pattern, one of one is a string, and nothing that a value holds ends the string."""
    result = run(r"""
        import { interpolate } from './data/interpolate';
        const step = { seconds: 5, start: 0, end: 0, rateSeconds: 20, rangeSeconds: 300 };
        const many = { name: 'm', type: 'query', multi: true, includeAll: true, allValue: '.+' };
        const one = { name: 'o', type: 'custom' };
        const go = (expr: string, m: string[], o: string) => interpolate(expr, [many, one], { m, o: [o] }, step);
        print([
          go('x{a=~"$m"}', ['$__all'], ''),
          go('x{a=~"${m}"}', ['a.b', 'c'], ''),
          go('x{a="$o"}[$__rate_interval]', [], 'y"} or up{z="'),
          go('$unknown $__range_s ${m:raw}', ['p', 'q'], ''),
        ]);
    """)

    assert [
        'x{a=~".+"}',
        'x{a=~"(a\\\\.b|c)"}',
        'x{a="y\\"} or up{z=\\""}[20s]',
        "$unknown 300 p,q",
    ] == result


@pytest.mark.stack
def test_an_address_is_read_as_it_is_written(run):
    """Epoch milliseconds, a panel's id in either of Grafana's spellings, several values, and odd uids."""
    result = run("""
        import { hrefOf, readPlace } from './state/url';
        const read = (pathname: string, search = '') => readPlace({ pathname, search });
        const place = read('/d/a%20b/slug', '?from=1700000000000&to=now&viewPanel=panel-12&var-x=1&var-x=2&theme=blue');
        const { uid, from, viewPanel, chosen, theme } = place;
        print([uid, from, viewPanel, chosen, theme ?? null, hrefOf(place), read('/d/%').uid]);
    """)

    href = "/d/a%20b?from=1700000000000&to=now&viewPanel=12&var-x=1&var-x=2"
    assert ["a b", "1700000000000", 12, {"x": ["1", "2"]}, None, href, "%"] == result
