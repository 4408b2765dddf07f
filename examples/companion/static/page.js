"use strict";

const $ = (id) => document.getElementById(id);

function element(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// --- Talk ------------------------------------------------------------------------------------------------------------

// One profile per browser session, not one per visit: see "user profiles pile up".
const user = sessionStorage.user ??= `page-${Math.random().toString(36).slice(2, 10)}`;

async function* events(response) {
  let rest = "";
  for await (const text of chunks(response.body.pipeThrough(new TextDecoderStream()))) {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const [, name, data] = /^event: (\w+)\ndata: (.*)$/s.exec(block) ?? [];
      if (name) yield [name, JSON.parse(data)];
    }
  }
}

async function* chunks(stream) {
  const reader = stream.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}

async function ask(message, mode) {
  const turn = document.createElement("li");
  const answer = element("p", "");
  const told = element("p", "…", "told");
  turn.append(element("p", message, "asked"), answer, told);
  $("turns").append(turn);
  try {
    const response = await fetch("/v1/chat/stream", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ user, message, mode }),
    });
    if (!response.ok) throw new Error((await response.json()).error);
    for await (const [name, data] of events(response)) {
      if (name === "error") throw new Error(data.error);
      if (name === "delta") answer.textContent += data.text;
      if (name === "done") {
        const from = data.cached ? "from the cache" : `${data.model} at ${data.provider}`;
        told.textContent = `${from}, ${data.seconds.toFixed(2)} s`;
      }
      turn.scrollIntoView({ block: "end" });
    }
  } catch (error) {
    told.textContent = `No answer: ${error.message}`;
    told.className = "error";
  }
}

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const message = $("message").value.trim();
  if (!message) return;
  const button = event.target.querySelector("button");
  $("message").value = "";
  button.disabled = true;
  await ask(message, $("mode").value);
  button.disabled = false;
  $("message").focus();
});

$("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    if (!$("ask").querySelector("button").disabled) $("ask").requestSubmit();
  }
});

// --- Health ----------------------------------------------------------------------------------------------------------

const seconds = (value) => (value === null ? "none yet" : `${value.toFixed(2)} s`);
const percent = (value) => (value === null ? "none yet" : `${(100 * value).toFixed(0)} %`);
const mebibytes = (value) => (value === null ? "unknown" : `${(value / 2 ** 20).toFixed(0)} MiB`);

function row(cells) {
  const made = document.createElement("tr");
  cells.forEach(([text, kind], index) => {
    const cell = element(index ? "td" : "th", text, kind);
    if (!index) cell.scope = "row";
    made.append(cell);
  });
  return made;
}

const WORDS = { green: "all is well", yellow: "something needs a look", red: "something is broken" };

function show(summary) {
  $("status").className = summary.status;
  $("status-text").textContent = WORDS[summary.status];
  $("operations").replaceChildren(...Object.entries(summary.operations).map(([mode, found]) => row([
    [mode], [String(found.recent)], [seconds(found.mean_seconds)], [seconds(found.target_seconds)],
    [percent(found.slow_ratio), found.slow_ratio > 0.05 ? "warn" : ""],
  ])));
  $("providers").replaceChildren(...Object.entries(summary.breakers).map(([provider, state]) => {
    const up = summary.checks[`llm_${provider}`];
    return row([
      [provider],
      [up === undefined ? "unknown" : up ? "yes" : "no", up ? "good" : up === false ? "bad" : ""],
      [state.replace("_", " "), state === "closed" ? "good" : "bad"],
      [summary.tunables.provider === provider ? "yes" : ""],
    ]);
  }));
  const { users, tunables } = summary;
  const figures = [
    ["Database", summary.checks.database === false ? "does not answer" : "answers", summary.checks.database === false],
    ["User profiles", `${users.active} of ${users.limit}`, users.active > users.limit],
    ["Answers from the cache", percent(summary.cache_hit_ratio)],
    ["WebSockets", String(summary.websockets)],
    ["Memory", mebibytes(summary.memory_bytes)],
    ["Memory to baseline", summary.memory_baseline_ratio === null ? "not taken yet"
      : `${summary.memory_baseline_ratio.toFixed(2)} ×`, summary.memory_baseline_ratio > 1.5],
    ["Thinker's model", tunables.thinker_model],
    ["Longest answer", `${tunables.max_tokens} tokens`],
    ["Cache keeps for", `${tunables.response_cache_ttl_seconds} s`],
  ];
  $("figures").replaceChildren(...figures.flatMap(([name, text, bad]) =>
    [element("dt", name), element("dd", text, bad ? "bad" : "")]));
}

async function look() {
  try {
    const response = await fetch("/v1/summary");
    if (!response.ok) throw new Error(String(response.status));
    show(await response.json());
  } catch {
    $("status").className = "red";
    $("status-text").textContent = "the companion does not answer";
  }
  setTimeout(look, 2000);
}

look();
