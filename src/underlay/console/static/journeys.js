/** The list of journeys, and one journey by itself. */
import { html, signal, useEffect, useRef, useState } from "./dom.js";
import { clock, count, moment, ms, rate, scaled, usd, words } from "./format.js";
import { Icon } from "./icons.js";
import { Command, Copy, Empty, Freshness, Outcome, Problem, Provenance } from "./kit.js";
import { bind } from "./keys.js";
import { feed } from "./live.js";
import { go, query, setQuery } from "./router.js";
import { read } from "./session.js";
import { Ribbon, Waterfall } from "./waterfall.js";

const PAGE = 50;
const latest = feed(`/api/journeys?limit=${PAGE}`, 2000);
/** Journeys older than the live page, fetched on demand. */
const older = signal([]);

/** @returns {import("./types.js").Journey[]} the live page, then the older ones, each once */
function rows() {
  const first = latest.data.value ?? [];
  const seen = new Set(first.map((row) => row.id));
  return [...first, ...older.value.filter((row) => !seen.has(row.id))];
}

/** @param {import("./types.js").Journey} row @param {string} text @param {string} outcome */
function matches(row, text, outcome) {
  if (outcome && row.outcome !== outcome) return false;
  const all = `${row.id} ${row.model} ${row.tenant} ${row.key_id} ${row.dialect} ${row.reason} ${row.status}`.toLowerCase();
  return text.toLowerCase().split(/\s+/).every((word) => all.includes(word));
}

export function JourneysPage() {
  latest.use();
  const text = query.value.get("q") ?? "";
  const outcome = query.value.get("outcome") ?? "";
  const shown = rows().filter((row) => matches(row, text, outcome));
  const filter = useRef(null);
  useEffect(() => bind({ "/": () => filter.current?.focus(), j: () => step(1), k: () => step(-1) }), []);
  return html`<div class="page">
    <div class="toolbar">
      <label class="field grow"><span class="sr-only">Filter journeys</span>
        <input ref=${filter} type="search" placeholder="Filter by id, model, tenant, key, reason…" value=${text}
          onInput=${(event) => setQuery({ q: event.currentTarget.value })} /></label>
      <label class="field"><span class="sr-only">Outcome</span>
        <select value=${outcome} onChange=${(event) => setQuery({ outcome: event.currentTarget.value })}>
          <option value="">All outcomes</option><option value="finished">Finished</option><option value="refused">Refused</option>
          <option value="failed">Failed</option><option value="client_gone">Left</option></select></label>
      <${Freshness} feed=${latest} />
    </div>
    ${latest.problem.value && html`<${Problem} error=${latest.problem.value} title="Journeys could not be read" retry=${latest.load} />`}
    ${latest.data.value === null ? null : shown.length === 0 ? html`<${NoJourneys} filtered=${Boolean(text || outcome)} />`
      : html`<${JourneyTable} rows=${shown} /><${More} rows=${rows()} />`}
  </div>`;
}

/** Move the focus to the next or previous row. @param {number} by */
function step(by) {
  const links = [...document.querySelectorAll(".journey-link")];
  const at = links.indexOf(document.activeElement);
  const to = links[Math.min(Math.max(at + by, 0), links.length - 1)];
  if (to instanceof HTMLElement) to.focus();
}

/** @param {{filtered: boolean}} props */
function NoJourneys({ filtered }) {
  if (filtered) {
    return html`<${Empty} icon="journeys" title="No journey matches">
      <button type="button" onClick=${() => setQuery({ q: "", outcome: "" })}>Clear the filter</button></${Empty}>`;
  }
  return html`<${Empty} icon="journeys" title="Nobody has asked anything yet">
    <p>Every request will leave its journey here, refused ones too.</p>
    <p><a class="button" href="/">Ask something</a></p><p class="muted">or in a terminal</p><${Command} text='underlay ask "Why is the sky blue?"' />
  </${Empty}>`;
}

/** @param {{rows: import("./types.js").Journey[]}} props */
function JourneyTable({ rows: list }) {
  return html`<table class="data cards">
    <caption class="sr-only">Journeys, latest first</caption>
    <thead><tr><th scope="col">When</th><th scope="col">Request</th><th scope="col">Outcome</th><th scope="col">Where the time went</th>
      <th scope="col" class="right">Took</th><th scope="col" class="right">First token</th><th scope="col" class="right">Tokens</th>
      <th scope="col" class="right">Cost</th></tr></thead>
    <tbody>${list.map((row) => html`<${JourneyRow} key=${row.id} row=${row} />`)}</tbody>
  </table>`;
}

/** @param {{row: import("./types.js").Journey}} props */
function JourneyRow({ row }) {
  return html`<tr class="linked" onClick=${(event) => { if (!event.target.closest("a")) go(`/journeys/${row.id}`); }}>
    <td data-label="When" class="num" title=${moment(row.at_s)}>${clock(row.at_s)}</td>
    <th scope="row"><a class="journey-link" href=${`/journeys/${row.id}`}><code>${row.id}</code></a>
      <span class="sub">${row.model} · ${row.dialect} · ${row.tenant}</span></th>
    <td data-label="Outcome"><${Outcome} journey=${row} />${row.reason && html`<span class="sub">${row.status} ${words(row.reason)}</span>`}</td>
    <td data-label="Time" class="ribbon-cell"><${Ribbon} journey=${row} /></td>
    <td data-label="Took" class="num right">${ms(row.duration_ms)}</td>
    <td data-label="First token" class="num right">${ms(row.ttft_ms)}</td>
    <td data-label="Tokens" class="num right">${count(row.usage.prompt_tokens)} → ${count(row.usage.completion_tokens)}</td>
    <td data-label="Cost" class="num right" title=${`$${row.money_usd}`}>${usd(row.money_usd)}</td>
  </tr>`;
}

/** @param {{rows: import("./types.js").Journey[]}} props */
function More({ rows: all }) {
  const [state, setState] = useState("idle");
  if (all.length < PAGE || state === "end") return null;
  async function load() {
    setState("busy");
    const page = await read(`/api/journeys?limit=${PAGE}&before=${all.at(-1)?.at_s}`).catch(() => null);
    if (page) older.value = [...older.value, ...page];
    setState(page && page.length < PAGE ? "end" : "idle");
  }
  return html`<p class="center"><button type="button" disabled=${state === "busy"} onClick=${load}>Load older ones</button></p>`;
}

/** @param {{id: string}} props */
export function JourneyPage({ id }) {
  const [journey, setJourney] = useState(null);
  const [problem, setProblem] = useState(null);
  const load = () => read(`/api/journeys/${encodeURIComponent(id)}`)
    .then((found) => { setJourney(found); setProblem(null); }, setProblem);
  useEffect(() => { load(); }, [id]);
  useEffect(() => bind({ Escape: () => go("/journeys") }), []);
  return html`<div class="page">
    <p><a class="back" href="/journeys"><${Icon} name="back" size=${16} />All journeys</a></p>
    ${problem && html`<${Problem} error=${problem} title="This journey could not be read" retry=${load} />`}
    ${journey && html`<${JourneyHead} journey=${journey} /><${JourneyFigures} journey=${journey} />
      <div class="card"><${Waterfall} journey=${journey} /></div><${JourneyFacts} journey=${journey} />`}
  </div>`;
}

/** @param {{journey: import("./types.js").Journey}} props */
function JourneyHead({ journey }) {
  return html`<header class="journey-head">
    <h2><code>${journey.id}</code></h2><${Outcome} journey=${journey} />
    <span class="muted">${moment(journey.at_s)}</span>
    <div class="row push"><${Copy} text=${() => location.href} label="Copy link" icon="link" />
      <${Copy} text=${() => JSON.stringify(journey, null, 2)} label="Copy JSON" /></div>
    ${journey.reason && html`<p class="reason"><strong>${journey.status}</strong> ${words(journey.reason)}</p>`}
  </header>`;
}

/** The figures under an answer and over a waterfall. @param {{journey: import("./types.js").Journey}} props */
export function JourneyFigures({ journey }) {
  const { usage } = journey;
  const decode = journey.ttft_ms == null ? 0 : journey.duration_ms - journey.ttft_ms;
  return html`<dl class="figures">
    <${Figure} name="Took" value=${ms(journey.duration_ms)} method="measured" note="By the gateway's clock, from the first byte in to the last byte out." />
    <${Figure} name="First token" value=${ms(journey.ttft_ms)} method="measured" note="By the gateway's clock." />
    <${Figure} name="Speed" value=${rate(Math.max(0, usage.completion_tokens - 1), decode).replace(" tok/s", "")} sub="tokens per second" method="measured" note="Generated tokens after the first, per second." />
    <${Figure} name="Tokens in" value=${count(usage.prompt_tokens)} sub=${usage.cached_tokens ? `${count(usage.cached_tokens)} cached` : "none cached"} method="measured" note="Counted by the engine." />
    <${Figure} name="Tokens out" value=${count(usage.completion_tokens)} method="measured" note="Counted by the engine." />
    <${Figure} name="Cost" value=${usd(journey.money_usd)} method="priced" note=${`Exactly $${journey.money_usd}.`} />
    ${journey.energy?.joules != null && html`<${EnergyFigures} energy=${journey.energy} />`}
  </dl>`;
}

/** From the best founded to the least: a sum is known as its least part is. */
const FOUNDED = ["measured", "calibrated", "modelled", "assumed"];

/** @param {{energy: import("./types.js").Energy}} props */
function EnergyFigures({ energy }) {
  const off = energy.uncertainty_joules == null ? "" : `± ${scaled(energy.uncertainty_joules, "J")}`;
  const sub = [off, energy.status === "settled" ? "" : "provisional"].filter(Boolean).join(", ");
  const carbon = energy.carbon.location;
  const water = energy.water.off_site;
  const costs = Object.entries(energy.cost);
  return html`<${Figure} name="Energy" value=${scaled(energy.joules, "J")} sub=${sub} method=${energy.method} note=${`${energy.meter}: ${energy.boundary}`} />
    ${carbon && html`<${Figure} name="Carbon" value=${scaled(carbon.value, "g")} sub="CO₂e by location" method=${carbon.method} note=${`${carbon.boundary}; ${carbon.source ?? ""}`} />`}
    ${water && html`<${Figure} name="Water" value=${scaled(water.value / 1000, "L")} sub="off site" method=${water.method} note=${`${water.boundary}; ${water.source ?? ""}`} />`}
    ${costs.length > 0 && html`<${Figure} name="Cost to us" value=${usd(costs.reduce((sum, [, part]) => sum + part.value, 0))} sub=${costs.map(([name]) => name).join(" + ")}
      method=${FOUNDED.findLast((method) => costs.some(([, part]) => part.method === method))} note=${costs.map(([name, part]) => `${words(name)}: ${part.source || part.boundary || ""}`).join("; ")} />`}`;
}

/** @param {{name: string, value: string, sub?: string, method: string, note?: string}} props */
function Figure({ name, value, sub, method, note }) {
  return html`<div class="figure"><dt>${name}</dt><dd><span class="num figure-value">${value}</span>
    ${sub && html`<span class="sub">${sub}</span>`}<${Provenance} method=${method} note=${note} /></dd></div>`;
}

/** @param {{journey: import("./types.js").Journey}} props */
function JourneyFacts({ journey }) {
  const facts = [
    ["Model", journey.model], ["Spoken", `${journey.dialect} ${words(journey.operation)}`], ["Tenant", journey.tenant],
    ["Key", journey.key_id], ["Engines asked", count(journey.attempts)], ["Status", String(journey.status)],
    ["Trace", journey.trace_id], ["Ignored fields", journey.ignored.join(", ")],
  ].filter(([, value]) => value);
  return html`<div class="card"><dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    <p class="muted fine">A journey holds no word of the prompt or the answer.</p></div>`;
}
