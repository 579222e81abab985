/** Small parts that several pages use. */
import { html, signal, useEffect, useRef, useState } from "./dom.js";
import { Icon } from "./icons.js";
import { now, paused } from "./live.js";
import { span } from "./format.js";

/** What the screen reader says next; set it sparingly. */
export const announcement = signal("");

/** @param {string} text */
export function announce(text) {
  announcement.value = text;
}

const METHODS = {
  measured: "Measured: read from a clock or a meter, or counted by the engine.",
  priced: "Priced: counted tokens times the price list of this platform.",
  calibrated: "Calibrated: computed with figures that were measured on this machine.",
  modelled: "Modelled: computed from published figures.",
  assumed: "Assumed: nobody measured this here.",
};

/** Where a figure comes from. @param {{method: keyof typeof METHODS, note?: string}} props */
export function Provenance({ method, note = "" }) {
  const text = `${METHODS[method]}${note ? ` ${note}` : ""}`;
  return html`<span class=${`provenance provenance-${method}`} title=${text}>${method}<span class="sr-only">. ${text}</span></span>`;
}

/** A button that copies, and says that it did. @param {{text: string | (() => string), label: string,
 *  compact?: boolean, icon?: string}} props */
export function Copy({ text, label, compact = false, icon = "copy" }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return undefined;
    const timer = setTimeout(() => setDone(false), 1600);
    return () => clearTimeout(timer);
  }, [done]);
  async function copy() {
    await copyText(typeof text === "function" ? text() : text);
    setDone(true);
    announce("Copied.");
  }
  return html`<button type="button" class="quiet" onClick=${copy} aria-label=${compact ? label : undefined} title=${compact ? label : undefined}>
    <${Icon} name=${done ? "check" : icon} size=${16} />${compact ? null : html`<span>${done ? "Copied" : label}</span>`}
  </button>`;
}

/** The clipboard API exists only on secure origins; a console on a private address may not be one.
 * @param {string} text */
async function copyText(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text).catch(() => copyBySelection(text));
  } else copyBySelection(text);
}

/** @param {string} text */
function copyBySelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "sr-only";
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** @param {{icon: string, title: string, children?: unknown}} props */
export function Empty({ icon, title, children }) {
  return html`<div class="empty"><span class="empty-icon"><${Icon} name=${icon} size=${28} /></span>
    <h2>${title}</h2>${children}</div>`;
}

/** A command to copy. @param {{text: string}} props */
export function Command({ text }) {
  return html`<span class="command"><code>${text}</code><${Copy} text=${text} label=${`Copy ${text}`} compact /></span>`;
}

/** What failed, the request's id, and what to do. @param {{error: import("./api.js").ApiError,
 *  title?: string, retry?: () => void, children?: unknown}} props */
export function Problem({ error, title = "That did not work", retry, children }) {
  const [since] = useState(now.value);
  const left = error.retryAfterS == null ? 0 : Math.ceil(error.retryAfterS - (now.value - since) / 1000);
  return html`<div class="problem" role="alert">
    <${Icon} name="warn" />
    <div class="problem-body">
      <strong>${title}</strong>
      <p>${error.message}</p>
      ${children}
      <p class="problem-facts">
        ${error.status ? html`<span>${error.status}${error.code ? ` ${error.code}` : ""}</span>` : null}
        ${error.requestId ? html`<span>request <code>${error.requestId}</code></span>` : null}
      </p>
      <div class="row">
        ${retry && html`<button type="button" onClick=${retry} disabled=${left > 0}>
          <${Icon} name="again" size=${16} /><span>${left > 0 ? `Try again in ${left} s` : "Try again"}</span></button>`}
        <${Copy} text=${() => error.diagnostics ?? String(error)} label="Copy diagnostics" />
      </div>
    </div>
  </div>`;
}

/** How old the figures are, and the switch that holds them still.
 * @param {{feed: ReturnType<typeof import("./live.js").feed>}} props */
export function Freshness({ feed }) {
  const age = feed.at.value ? Math.max(0, (now.value - feed.at.value) / 1000) : null;
  const text = age === null ? "not read yet" : age < 1.5 ? "just now" : `${span(age)} ago`;
  return html`<div class="freshness">
    <span class=${feed.stale.value ? "stale-text" : "muted"}>${feed.stale.value ? "Stale: last read" : "Updated"} ${text}</span>
    <button type="button" class="quiet" aria-pressed=${paused.value} onClick=${() => { paused.value = !paused.value; }}>
      <${Icon} name=${paused.value ? "play" : "pause"} size=${16} /><span>${paused.value ? "Resume" : "Pause"}</span>
    </button>
  </div>`;
}

/** A list of choices of which one holds. @param {{label: string, value: string, options: [string, string][],
 *  onPick: (value: string) => void}} props */
export function Segments({ label, value, options, onPick }) {
  return html`<div class="segments" role="group" aria-label=${label}>
    ${options.map(([key, text]) => html`<button type="button" aria-pressed=${key === value} onClick=${() => onPick(key)}>${text}</button>`)}
  </div>`;
}

/** A native dialog, open while `open` is true. @param {{open: boolean, onClose: () => void, label: string,
 *  children?: unknown}} props */
export function Dialog({ open, onClose, label, children }) {
  const ref = useRef(null);
  useEffect(() => {
    if (open && !ref.current.open) ref.current.showModal();
    if (!open && ref.current.open) ref.current.close();
  }, [open]);
  return html`<dialog ref=${ref} aria-label=${label} onClose=${onClose}
    onClick=${(event) => { if (event.target === ref.current) ref.current.close(); }}>${open ? children : null}</dialog>`;
}

const OUTCOMES = {
  finished: ["check", "good"],
  refused: ["warn", "warn"],
  failed: ["cross", "bad"],
  client_gone: ["leave", "muted"],
};

/** How a request ended: an icon and a word, never colour alone. @param {{journey: {outcome: string, status: number}}} props */
export function Outcome({ journey }) {
  const [icon, tone] = OUTCOMES[journey.outcome] ?? ["clock", "muted"];
  const word = journey.outcome === "client_gone" ? "left" : journey.outcome || "running";
  return html`<span class=${`mark mark-${tone}`}><${Icon} name=${icon} size=${16} />${word.replaceAll("_", " ")}</span>`;
}

const STATES = {
  ready: ["check", "good"],
  busy: ["check", "good"],
  starting: ["clock", "muted"],
  loading: ["clock", "muted"],
  suspect: ["warn", "warn"],
  draining: ["down", "warn"],
  stopping: ["down", "warn"],
  lost: ["cross", "bad"],
  failed: ["cross", "bad"],
  stopped: ["stop", "muted"],
};

/** A replica's state: an icon and a word. @param {{state: string}} props */
export function State({ state }) {
  const [icon, tone] = STATES[state] ?? ["help", "muted"];
  return html`<span class=${`mark mark-${tone}`}><${Icon} name=${icon} size=${16} />${state.replaceAll("_", " ")}</span>`;
}
