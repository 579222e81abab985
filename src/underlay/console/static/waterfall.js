/** A journey as a picture: every hop where it began, as long as it took, and why it was so. */
import { html, useState } from "./dom.js";
import { count, ms, percent, scaled } from "./format.js";
import { Segments } from "./kit.js";

/** Kinds of time, in the order of the legend. */
const KINDS = {
  gateway: "gateway",
  decision: "deciding",
  queue: "waiting",
  prefill: "reading the prompt",
  decode: "writing the answer",
  other: "other",
};

const KIND_OF = {
  arrive: "gateway", parse: "gateway", delivery: "gateway", egress: "gateway", flush: "gateway", respond: "gateway",
  identity: "decision", auth: "decision", admission: "decision", routing: "decision", dispatch: "decision",
  metering: "decision", settle: "decision", refuse: "decision",
  queue: "queue", wait: "queue", hold: "queue", waiting: "queue", queued: "queue",
  prefill: "prefill", connect: "prefill", first_token: "prefill", engine: "prefill",
  decode: "decode", generate: "decode", stream: "decode",
};

/** @param {import("./types.js").Hop} hop */
export function kindOf(hop) {
  return KIND_OF[hop.name.toLowerCase().split(/[\s:/.]/)[0]] ?? "other";
}

/** How much of `[0, total]` the hops cover together, overlaps counted once.
 * @param {import("./types.js").Hop[]} hops */
export function covered(hops) {
  let until = 0;
  let sum = 0;
  for (const hop of [...hops].sort((a, b) => a.start_ms - b.start_ms)) {
    const end = hop.start_ms + hop.duration_ms;
    sum += Math.max(0, end - Math.max(until, hop.start_ms));
    until = Math.max(until, end);
  }
  return sum;
}

/** @param {import("./types.js").Journey} journey */
function totals(journey) {
  const sums = new Map();
  for (const hop of journey.hops) sums.set(kindOf(hop), (sums.get(kindOf(hop)) ?? 0) + hop.duration_ms);
  return Object.keys(KINDS).filter((kind) => sums.has(kind)).map((kind) => [kind, sums.get(kind)]);
}

/** The picture in one sentence, for those who hear it and for those in a hurry.
 * @param {import("./types.js").Journey} journey */
export function sentence(journey) {
  const all = Math.max(journey.duration_ms, 1e-6);
  const parts = totals(journey).filter(([, time]) => time / all >= 0.01).sort((a, b) => b[1] - a[1])
    .map(([kind, time]) => `${percent(time / all)} ${KINDS[kind]}`);
  const gap = all - covered(journey.hops);
  const rest = gap / all > 0.01 ? ` ${ms(gap)} belong to no hop.` : "";
  return `${ms(journey.duration_ms)} in all${parts.length ? `: ${parts.join(", ")}` : ""}.${rest}`;
}

/** The whole journey in one line. @param {{journey: import("./types.js").Journey}} props */
export function Ribbon({ journey }) {
  const all = Math.max(journey.duration_ms, 1e-6);
  return html`<span class="ribbon" role="img" aria-label=${sentence(journey)}>
    ${journey.hops.map((hop) => html`<span class=${`bar bar-${kindOf(hop)}`} title=${`${hop.name} ${ms(hop.duration_ms)}`}
      style=${{ "--start": hop.start_ms / all, "--size": hop.duration_ms / all }}></span>`)}
  </span>`;
}

/** @param {{journey: import("./types.js").Journey}} props */
function Legend({ journey }) {
  return html`<ul class="legend">
    ${totals(journey).map(([kind, time]) => html`<li><span class=${`swatch bar-${kind}`}></span>${KINDS[kind]} <span class="muted num">${ms(time)}</span></li>`)}
  </ul>`;
}

/** Where a time lies on the axis, from 0 to 1. @param {"linear" | "log"} scale @param {number} all */
function axis(scale, all) {
  // Microseconds and minutes fit one logarithmic axis that begins at 0.1 ms.
  const log = (time) => Math.log10(1 + 10 * Math.max(0, time));
  return scale === "log" ? (time) => log(time) / log(all) : (time) => time / all;
}

/** Times to write under the axis. @param {"linear" | "log"} scale @param {number} all */
function ticks(scale, all) {
  if (scale === "linear") return [0, 0.25, 0.5, 0.75, 1].map((part) => part * all);
  const powers = [1, 10, 100, 1000, 10_000, 100_000].filter((time) => time < all * 0.7);
  return [0, ...powers, all];
}

/** Arrow keys walk along the hops. @param {KeyboardEvent} event */
function walk(event) {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const to = step && event.currentTarget instanceof Element ? event.currentTarget[step] : null;
  if (to instanceof HTMLElement) {
    event.preventDefault();
    to.focus();
  }
}

/** @param {{hop: import("./types.js").Hop, at: (time: number) => number, first: boolean}} props */
function HopRow({ hop, at, first }) {
  const start = at(hop.start_ms);
  const size = at(hop.start_ms + hop.duration_ms) - start;
  return html`<li class="hop" tabindex=${first ? 0 : -1} onKeyDown=${walk}>
    <div class="hop-name"><span>${hop.name.replaceAll("_", " ")}</span>${hop.who && html`<span class="muted hop-who">${hop.who}</span>`}</div>
    <div class="hop-track" aria-hidden="true"><span class=${`bar bar-${kindOf(hop)}`} style=${{ "--start": start, "--size": size }}></span></div>
    <div class="hop-time num">${ms(hop.duration_ms)}</div>
    <div class="hop-why">${hop.why}${hop.tokens != null && html`<span class="hop-tokens num">${count(hop.tokens)} tokens</span>`}${hop.joules != null && html`<span class="hop-tokens num">${scaled(hop.joules, "J")}</span>`}</div>
  </li>`;
}

/** @param {{journey: import("./types.js").Journey}} props */
function HopTable({ journey }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Hops as a table"><table class="data">
    <thead><tr><th scope="col">Hop</th><th scope="col" class="right">Starts</th><th scope="col" class="right">Takes</th>
      <th scope="col" class="right">Tokens</th><th scope="col" class="right">Energy</th><th scope="col">Who</th><th scope="col">Why</th></tr></thead>
    <tbody>${journey.hops.map((hop) => html`<tr><th scope="row">${hop.name.replaceAll("_", " ")}</th>
      <td class="num right">${ms(hop.start_ms)}</td><td class="num right">${ms(hop.duration_ms)}</td>
      <td class="num right">${hop.tokens == null ? "" : count(hop.tokens)}</td>
      <td class="num right">${hop.joules == null ? "" : scaled(hop.joules, "J")}</td><td>${hop.who}</td><td class="wide">${hop.why}</td></tr>`)}</tbody>
  </table></div>`;
}

/** @param {{journey: import("./types.js").Journey}} props */
export function Waterfall({ journey }) {
  const [view, setView] = useState("linear");
  const all = Math.max(journey.duration_ms, ...journey.hops.map((hop) => hop.start_ms + hop.duration_ms), 1e-6);
  const at = axis(view, all);
  return html`<section class="waterfall" aria-label="Waterfall">
    <div class="waterfall-head">
      <p class="caption">${sentence(journey)}</p>
      <${Segments} label="How to show the hops" value=${view} onPick=${setView}
        options=${[["linear", "Linear"], ["log", "Log"], ["table", "Table"]]} />
    </div>
    ${journey.hops.length === 0 ? html`<p class="muted">No hop of this request was written down.</p>`
      : view === "table" ? html`<${HopTable} journey=${journey} />`
      : html`<ol class="hops">${journey.hops.map((hop, index) => html`<${HopRow} key=${index} hop=${hop} at=${at} first=${index === 0} />`)}</ol>
        <div class="axis num" aria-hidden="true">${ticks(view, all).map((time) => html`<span style=${{ "--start": at(time) }}>${time ? ms(time) : "0"}</span>`)}</div>
        <${Legend} journey=${journey} />`}
  </section>`;
}
