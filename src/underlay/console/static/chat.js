/** The chat: ask, watch the answer come, and see what happened under it. */
import { html, useEffect, useLayoutEffect, useRef, useState } from "./dom.js";
import {
  asked, current, curlOf, draft, editLast, maxTokens, model, regenerate, send, startOver, stop, temperature, turns,
} from "./conversation.js";
import { count, ms, plural, rate, usd } from "./format.js";
import { Icon } from "./icons.js";
import { Command, Copy, Empty, Problem, Provenance } from "./kit.js";
import { bind } from "./keys.js";
import { now, platform } from "./live.js";
import { Markdown } from "./markdown.js";
import { session } from "./session.js";
import { Ribbon, Waterfall } from "./waterfall.js";

const SUGGESTIONS = ["What is the capital of France?", "Why is the sky blue?", "Name three uses of copper."];
const STATIONS = ["arrive", "identity", "admission", "routing", "engine", "delivery", "metering"];

export function ChatPage() {
  const box = useRef(null);
  useEffect(() => bind({ Escape: stop, "/": () => box.current?.focus(), n: startOver }), []);
  const list = turns.value;
  return html`<div class="chat">
    <div class="transcript" role="log" aria-live="off" aria-label="Conversation">
      ${list.length === 0 ? html`<${Welcome} />` : list.map((turn, index) => html`<${Exchange} key=${turn.id} turn=${turn} last=${index === list.length - 1} />`)}
    </div>
    <${Follow} />
    <${Composer} box=${box} />
  </div>`;
}

function Welcome() {
  if (!asked.value) return html`<${NoModel} />`;
  return html`<div class="welcome">
    <h2>Ask something. See everything under it.</h2>
    <p class="lead">Each answer comes with its journey: every hop it took on this platform, how long, what it cost, and the reason for each decision.</p>
    <ol class="stations" aria-label="The hops of a prompt">${STATIONS.map((name) => html`<li>${name}</li>`)}</ol>
    <div class="suggestions">${SUGGESTIONS.map((text) => html`<button type="button" onClick=${() => send(text)}>${text}</button>`)}</div>
  </div>`;
}

function NoModel() {
  return html`<${Empty} icon="layers" title="No model serves chats yet">
    <ol class="steps"><li>See what is missing <${Command} text="underlay doctor" /></li>
      <li>Name a model in <code>underlay.yaml</code> and check it <${Command} text="underlay config check" /></li>
      <li>Start it <${Command} text="underlay up" /></li></ol>
  </${Empty}>`;
}

const toEnd = () => scrollTo(0, document.documentElement.scrollHeight);

/** Keep the end in sight while it grows, unless somebody scrolled up to read. */
function Follow() {
  const near = useRef(true);
  useEffect(() => {
    const look = () => { near.current = innerHeight + scrollY > document.documentElement.scrollHeight - 160; };
    addEventListener("scroll", look, { passive: true });
    return () => removeEventListener("scroll", look);
  }, []);
  const last = turns.value.at(-1);
  const grown = `${turns.value.length} ${last?.answer.value.length} ${last?.state.value} ${last?.journey.value?.id}`;
  const started = useRef(0);
  useLayoutEffect(() => {
    if (last && last.id !== started.current) {
      started.current = last.id;
      near.current = true;
    }
    if (!last || !near.current) return undefined;
    toEnd();
    // Exchanges out of sight get their real height only when they come into it.
    const frame = requestAnimationFrame(toEnd);
    return () => cancelAnimationFrame(frame);
  }, [grown]);
  return null;
}

/** @param {{turn: import("./conversation.js").Turn, last: boolean}} props */
function Exchange({ turn, last }) {
  const state = turn.state.value;
  return html`<article class="exchange">
    <div class="question"><span class="sr-only">You asked: </span>${turn.question}</div>
    <div class="answer" aria-busy=${state === "waiting" || state === "streaming"}>
      ${state === "waiting" && html`<${Waiting} turn=${turn} />`}
      ${turn.answer.value && html`<${Markdown} text=${turn.answer.value} />`}
      ${state === "streaming" && html`<span class="caret" aria-hidden="true"></span>`}
      ${state === "stopped" && html`<p class="note">You stopped this answer.</p>`}
      ${turn.finish.value === "length" && state === "done" && html`<p class="note">Cut at the limit of ${plural(turn.usage.value?.completion_tokens ?? maxTokens.value, "token")}. Options has the limit.</p>`}
      ${state === "failed" && html`<${Failure} turn=${turn} last=${last} />`}
    </div>
    ${state !== "waiting" && html`<${Footer} turn=${turn} last=${last} />`}
  </article>`;
}

/** Waiting says what for: the queue if there is one. @param {{turn: import("./conversation.js").Turn}} props */
function Waiting({ turn }) {
  // `now` ticks once a second and makes this line count.
  const waited = now.value && performance.now() - turn.startedMs;
  const queue = platform.data.value?.waiting ?? 0;
  return html`<p class="waiting"><span class="dots" aria-hidden="true"><i></i><i></i><i></i></span>
    ${waited < 1500 ? "Waiting for the first token" : `Waiting for the first token for ${Math.round(waited / 1000)} s`}
    ${queue > 0 ? html`<span class="muted"> · ${plural(queue, "request")} in the queue</span>` : null}</p>`;
}

const TITLES = {
  401: "The key was not accepted",
  403: "This key may not do that",
  429: "A limit of this key is reached",
  503: "The platform is full or not ready",
  504: "It took longer than you would wait",
};

/** @param {{turn: import("./conversation.js").Turn, last: boolean}} props */
function Failure({ turn, last }) {
  const error = turn.error.value;
  const broke = turn.answer.value !== "";
  const title = broke ? "The answer broke off" : (TITLES[error.status] ?? (error.status ? "The request failed" : "No connection"));
  const hint = error.status === 503 ? "This is not your limit: others are being served. Waiting helps." : "";
  return html`<${Problem} error=${error} title=${title} retry=${last ? regenerate : undefined}>${hint && html`<p class="muted">${hint}</p>`}</${Problem}>`;
}

/** @param {{turn: import("./conversation.js").Turn, last: boolean}} props */
function Footer({ turn, last }) {
  const [open, setOpen] = useState(false);
  const journey = turn.journey.value;
  const working = turn.state.value === "streaming";
  return html`<footer class="answer-foot">
    <${Figures} turn=${turn} />
    ${journey && html`<button type="button" class="journey-toggle" aria-expanded=${open} onClick=${() => setOpen(!open)}>
      <span class="journey-word">Journey</span><${Ribbon} journey=${journey} /><span class=${open ? "turned" : ""}><${Icon} name="down" size=${16} /></span></button>`}
    ${journey && open && html`<div class="card inset"><${Waterfall} journey=${journey} />
      <p class="fine"><a href=${`/journeys/${journey.id}`}>Open <code>${journey.id}</code> by itself</a></p></div>`}
    ${!working && html`<div class="row actions">
      ${turn.answer.value && html`<${Copy} text=${() => turn.answer.value} label="Copy" />`}
      <${Copy} text=${() => curlOf(turn)} label="Copy as curl" />
      ${last && turn.state.value !== "failed" && html`<button type="button" class="quiet" onClick=${regenerate}><${Icon} name="again" size=${16} /><span>Regenerate</span></button>`}
      ${last && html`<button type="button" class="quiet" onClick=${editLast}><${Icon} name="edit" size=${16} /><span>Edit</span></button>`}
    </div>`}
  </footer>`;
}

/** The platform's figures once the journey is known, this browser's until then.
 * @param {{turn: import("./conversation.js").Turn}} props */
function Figures({ turn }) {
  const journey = turn.journey.value;
  const usage = journey?.usage ?? turn.usage.value;
  const seen = turn.firstMs.value === null ? null : turn.firstMs.value - turn.startedMs;
  const ttft = journey ? journey.ttft_ms : seen;
  const decode = journey ? journey.duration_ms - (journey.ttft_ms ?? 0) : (turn.lastMs.value ?? 0) - (turn.firstMs.value ?? 0);
  if (ttft === null && !usage?.prompt_tokens) return null;
  const cost = journey?.money_usd ?? turn.costUsd.value;
  const by = journey ? "By the gateway's clock; tokens counted by the engine." : "In this browser, with the network in between.";
  return html`<ul class="foot-figures num" aria-label="Figures of this answer">
    <li><span class="muted">TTFT</span> ${ms(ttft)}</li>
    ${usage && html`<li>${rate(Math.max(0, usage.completion_tokens - 1), decode)}</li>
      <li><span class="muted">in</span> ${count(usage.prompt_tokens)}${usage.cached_tokens > 0 && html` <span class="muted">(${count(usage.cached_tokens)} cached)</span>`}</li>
      <li><span class="muted">out</span> ${count(usage.completion_tokens)}</li>`}
    <li><${Provenance} method="measured" note=${by} /></li>
    ${cost !== "" && html`<li title=${`$${cost}`}>${usd(cost)} <${Provenance} method="priced" /></li>`}
  </ul>`;
}

/** @param {{box: {current: HTMLTextAreaElement | null}}} props */
function Composer({ box }) {
  const busy = current.value !== null;
  useLayoutEffect(() => {
    // The box grows with its text; CSS bounds it.
    box.current.style.height = "auto";
    box.current.style.height = `${box.current.scrollHeight}px`;
  }, [draft.value]);
  useEffect(() => box.current?.focus({ preventScroll: true }), []);
  function submit(event) {
    event?.preventDefault();
    if (busy || !draft.value.trim()) return;
    send(draft.value);
    draft.value = "";
  }
  function onKeyDown(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
    if (event.key === "ArrowUp" && draft.value === "" && !busy && turns.value.length) {
      event.preventDefault();
      editLast();
    }
  }
  return html`<form class="composer" onSubmit=${submit}>
    <div class="composer-box">
      <textarea ref=${box} rows="1" aria-label="Your message" placeholder="Ask something" value=${draft.value} disabled=${!asked.value}
        onInput=${(event) => { draft.value = event.currentTarget.value; }} onKeyDown=${onKeyDown}></textarea>
      <div class="composer-row">
        <${ModelPicker} /><${Options} />
        ${turns.value.length > 0 && html`<button type="button" class="quiet" aria-label="New conversation" title="New conversation" onClick=${startOver}><${Icon} name="plus" size=${16} /><span>New</span></button>`}
        <span class="push"></span>
        ${busy ? html`<button type="button" class="round" onClick=${stop} aria-label="Stop the answer" title="Stop (Esc)"><${Icon} name="stop" /></button>`
          : html`<button type="submit" class="round primary" disabled=${!draft.value.trim() || !asked.value} aria-label="Send" title="Send (Enter)"><${Icon} name="send" /></button>`}
      </div>
    </div>
    <p class="fine muted composer-hint">Small models make things up. <span class="wide-only">The conversation stays in this tab. <kbd>Shift</kbd> <kbd>Enter</kbd> breaks the line.</span></p>
  </form>`;
}

function ModelPicker() {
  const cards = (session.value?.models ?? []).filter((card) => card.operations.includes("chat"));
  if (cards.length === 0) return null;
  return html`<label class="picker"><span class="sr-only">Model</span>
    <select value=${asked.value} onChange=${(event) => { model.value = event.currentTarget.value; }}>
      ${cards.map((card) => html`<option value=${card.id}>${card.id}</option>`)}</select></label>`;
}

function Options() {
  const ref = useRef(null);
  useEffect(() => {
    const shut = (event) => { if (ref.current?.open && !ref.current.contains(event.target)) ref.current.open = false; };
    addEventListener("pointerdown", shut);
    return () => removeEventListener("pointerdown", shut);
  }, []);
  return html`<details class="options" ref=${ref}><summary class="quiet"><${Icon} name="sliders" size=${16} /><span>Options</span></summary>
    <div class="popover">
      <label class="field"><span>Longest answer, tokens</span><input type="number" min="1" max="32768" value=${maxTokens.value}
        onChange=${(event) => { maxTokens.value = Math.max(1, Number(event.currentTarget.value) || 400); }} /></label>
      <label class="field"><span>Temperature <span class="num muted">${temperature.value.toFixed(1)}</span></span>
        <input type="range" min="0" max="2" step="0.1" value=${temperature.value} onInput=${(event) => { temperature.value = Number(event.currentTarget.value); }} /></label>
    </div></details>`;
}
