/** The engines: who runs, who is ill, how full each one is. */
import { Fragment, html, useState } from "./dom.js";
import { count, memory, percent, plural, span, usd, words } from "./format.js";
import { Icon } from "./icons.js";
import { Command, Empty, Freshness, Problem, State } from "./kit.js";
import { feed, platform } from "./live.js";

const replicas = feed("/api/replicas", 1000);
const readiness = feed("/readyz?verbose", 2000, { accept: [503] });

export function FleetPage() {
  replicas.use();
  readiness.use();
  const rows = replicas.data.value;
  return html`<div class="page">
    <div class="toolbar"><${Readiness} /><${Freshness} feed=${replicas} /></div>
    ${replicas.problem.value && html`<${Problem} error=${replicas.problem.value} title="The fleet could not be read" retry=${replicas.load} />`}
    ${rows && html`<${Tiles} rows=${rows} />`}
    ${rows && (rows.length ? html`<${ReplicaTable} rows=${rows} />` : html`<${NoReplicas} />`)}
  </div>`;
}

function Readiness() {
  const state = readiness.data.value;
  if (!state) return html`<p class="grow"></p>`;
  return html`<div class="grow readiness"><span class=${`mark mark-${state.ready ? "good" : "warn"}`}>
    <${Icon} name=${state.ready ? "check" : "warn"} size=${16} />${state.ready ? "Prompts are let in" : "Prompts are not let in"}</span>
    ${state.reasons?.length > 0 && html`<span class="muted">${state.reasons.join("; ")}</span>`}</div>`;
}

/** @param {{rows: import("./types.js").Replica[]}} props */
function Tiles({ rows }) {
  const ready = rows.filter((row) => row.state === "ready").length;
  const slots = rows.reduce((sum, row) => sum + row.slots, 0);
  const load = rows.reduce((sum, row) => sum + row.load, 0);
  const line = platform.data.value;
  return html`<dl class="tiles">
    <${Tile} name="Ready" value=${`${ready} of ${rows.length}`} sub=${plural(rows.length, "replica")} />
    <${Tile} name="Slots taken" value=${`${load} of ${slots}`} sub=${slots ? percent(load / slots) : "no slots"} />
    <${Tile} name="Open requests" value=${count(line?.open_requests)} sub=${line ? `${count(line.waiting)} waiting` : ""} />
    <${Tile} name="Served" value=${count(rows.reduce((sum, row) => sum + row.served, 0))} sub=${line ? `up ${span(line.uptime_s)}` : ""} />
  </dl>`;
}

/** @param {{name: string, value: string, sub: string}} props */
function Tile({ name, value, sub }) {
  return html`<div class="tile"><dt>${name}</dt><dd><span class="num tile-value">${value}</span><span class="sub">${sub}</span></dd></div>`;
}

/** @param {{rows: import("./types.js").Replica[]}} props */
function ReplicaTable({ rows }) {
  return html`<table class=${`data cards ${replicas.stale.value ? "stale" : ""}`}>
    <caption class="sr-only">Replicas</caption>
    <thead><tr><th scope="col">Replica</th><th scope="col">State</th><th scope="col">Load</th><th scope="col" class="right">Served</th>
      <th scope="col" class="right">Restarts</th><th scope="col" class="right">Memory</th><th scope="col" class="right">Up</th>
      <th scope="col"><span class="sr-only">Details</span></th></tr></thead>
    <tbody>${rows.map((row) => html`<${ReplicaRow} key=${row.name} row=${row} />`)}</tbody>
  </table>`;
}

/** @param {{row: import("./types.js").Replica}} props */
function ReplicaRow({ row }) {
  const [open, setOpen] = useState(false);
  return html`<${Fragment}><tr>
    <th scope="row">${row.name}<span class="sub">${row.model} · ${row.engine}</span></th>
    <td data-label="State"><${State} state=${row.state} />${row.why && html`<span class="sub">${row.why}</span>`}</td>
    <td data-label="Load"><${Load} row=${row} /></td>
    <td data-label="Served" class="num right">${count(row.served)}</td>
    <td data-label="Restarts" class="num right">${count(row.restarts)}</td>
    <td data-label="Memory" class="num right">${memory(row.resident_mb)}</td>
    <td data-label="Up" class="num right">${row.uptime_s ? span(row.uptime_s) : "–"}</td>
    <td class="right expander"><button type="button" class="quiet" aria-expanded=${open} aria-label=${`Details of ${row.name}`} onClick=${() => setOpen(!open)}>
      <span class="narrow-only">Details</span><span class=${open ? "turned" : ""}><${Icon} name="down" size=${16} /></span></button></td>
  </tr>${open && html`<tr class="detail"><td colspan="8"><${Details} row=${row} /></td></tr>`}</${Fragment}>`;
}

/** One cell for each slot. @param {{row: import("./types.js").Replica}} props */
function Load({ row }) {
  const label = `${row.load} of ${row.slots} slots`;
  if (row.slots > 16) return html`<meter min="0" max=${row.slots} value=${row.load} aria-label=${label}></meter> <span class="num">${row.load}/${row.slots}</span>`;
  return html`<span class="slots" role="img" aria-label=${label}>${Array.from({ length: row.slots }, (_, index) => html`<i class=${index < row.load ? "taken" : ""}></i>`)}</span>
    <span class="num load-text">${row.load}/${row.slots}</span>`;
}

/** @param {{row: import("./types.js").Replica}} props */
function Details({ row }) {
  const facts = [["Address", row.address], ["Process", row.pid == null ? "none" : String(row.pid)],
    ...Object.entries(row.gauges).map(([name, value]) => [words(name), gauge(name, value)])];
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd class="num">${value}</dd></div>`)}</dl>`;
}

/** @param {string} name @param {number} value */
function gauge(name, value) {
  if (name.endsWith("_ratio")) return percent(value);
  if (name.endsWith("_usd")) return usd(value);
  return count(Math.round(value * 100) / 100);
}

function NoReplicas() {
  return html`<${Empty} icon="fleet" title="No engine runs">
    <p>Find out what is missing, then start one.</p><div class="stack"><${Command} text="underlay doctor" /><${Command} text="underlay up" /></div>
  </${Empty}>`;
}
