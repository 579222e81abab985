/** The frame around every page: where one is, whether the platform is well, and where else to go. */
import { html, useEffect, useState } from "./dom.js";
import { ChatPage } from "./chat.js";
import { FleetPage } from "./fleet.js";
import { count, span } from "./format.js";
import { HelpDialog } from "./help.js";
import { Icon } from "./icons.js";
import { JourneyPage, JourneysPage } from "./journeys.js";
import { helpOpen } from "./keys.js";
import { Empty, announcement } from "./kit.js";
import { now, platform } from "./live.js";
import { nextTheme, theme } from "./prefs.js";
import { follow, route } from "./router.js";
import { logIn, logOut, loginProblem, standing } from "./session.js";

const PAGES = [
  { page: "chat", to: "/", word: "Chat", icon: "chat" },
  { page: "journeys", to: "/journeys", word: "Journeys", icon: "journeys" },
  { page: "fleet", to: "/fleet", word: "Fleet", icon: "fleet" },
];

const TITLES = {
  chat: ["Chat", "Talk to a model on this platform."],
  journeys: ["Journeys", "What happened to each request, and why."],
  journey: ["Journey", "One request, from its first byte to its last."],
  fleet: ["Fleet", "The engines that do the work."],
};

export function Shell() {
  const { page } = route.value;
  const [title] = TITLES[page] ?? ["Not found"];
  useEffect(() => { document.title = `${title} · Underlay`; }, [title]);
  if (standing.value === "checking") return html`<div class="blank"></div>`;
  if (standing.value === "out") return html`<${Login} />`;
  return html`<div class="shell" onClick=${follow}>
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>Skip to the page</a>
    <${Rail} />
    <div class="body"><${Top} /><${Offline} /><main id="main" tabindex="-1"><${Page} /></main></div>
    <${HelpDialog} />
    <div class="sr-only" role="status" aria-live="polite">${announcement.value}</div>
  </div>`;
}

function Page() {
  const { page, id } = route.value;
  if (page === "chat") return html`<${ChatPage} />`;
  if (page === "journeys") return html`<${JourneysPage} />`;
  if (page === "journey") return html`<${JourneyPage} id=${id} />`;
  if (page === "fleet") return html`<${FleetPage} />`;
  return html`<${Empty} icon="help" title="There is no such page"><p><a class="button" href="/">Back to the chat</a></p></${Empty}>`;
}

function Rail() {
  const at = route.value.page === "journey" ? "journeys" : route.value.page;
  return html`<nav class="rail" aria-label="Pages">
    <a class="brand" href="/"><${Icon} name="layers" size=${24} /><span>Underlay</span></a>
    <ul class="rail-pages">${PAGES.map(({ page, to, word, icon }) => html`<li><a href=${to} aria-current=${page === at ? "page" : undefined}><${Icon} name=${icon} /><span>${word}</span></a></li>`)}</ul>
    <div class="rail-foot">
      <button type="button" class="quiet" onClick=${nextTheme} title=${`Theme: ${theme.value}`} aria-label=${`Theme: ${theme.value}. Change`}><${Icon} name=${theme.value} /><span>${theme.value === "system" ? "System theme" : theme.value === "light" ? "Light" : "Dark"}</span></button>
      <button type="button" class="quiet" onClick=${() => { helpOpen.value = true; }} title="Keyboard (?)" aria-label="Keyboard help"><${Icon} name="help" /><span>Keyboard</span></button>
      <button type="button" class="quiet" onClick=${logOut} title="Log out" aria-label="Log out"><${Icon} name="leave" /><span>Log out</span></button>
    </div>
  </nav>`;
}

function Top() {
  const [title, about] = TITLES[route.value.page] ?? ["Not found", ""];
  return html`<header class="top"><div class="top-title"><h1>${title}</h1><p class="muted">${about}</p></div><${Pulse} /></header>`;
}

/** LIVE says that these figures are no simulation; beside it the platform in a few words. */
function Pulse() {
  platform.use();
  const line = platform.data.value;
  return html`<div class="pulse"><span class="badge">LIVE</span>${line && html`
    <span class=${`mark mark-${line.ready ? "good" : "warn"}`}><${Icon} name=${line.ready ? "check" : "warn"} size=${16} />${line.ready ? "ready" : "not ready"}</span>
    <span class="muted num pulse-more">${count(line.open_requests)} open${line.waiting > 0 ? `, ${count(line.waiting)} waiting` : ""}</span>`}</div>`;
}

function Offline() {
  const problem = platform.problem.value;
  if (!problem || problem.status) return null;
  const age = platform.at.value ? ` What you see is ${span((now.value - platform.at.value) / 1000)} old.` : "";
  return html`<div class="offline" role="alert"><${Icon} name="warn" size=${16} /> The platform does not answer.${age} Trying again.</div>`;
}

function Login() {
  const [key, setKey] = useState("");
  return html`<main class="login"><form class="card" onSubmit=${(event) => { event.preventDefault(); logIn(key); }}>
    <span class="brand"><${Icon} name="layers" size=${28} /><span>Underlay</span></span>
    <h1>Open the console</h1>
    <p class="muted">Open the address that <code>underlay up</code> printed, which carries the key, or paste the key here.</p>
    <label class="field"><span>Console key</span><input type="password" autocomplete="off" spellcheck="false" required value=${key}
      aria-invalid=${Boolean(loginProblem.value)} aria-describedby="login-problem" onInput=${(event) => setKey(event.currentTarget.value)} /></label>
    <p id="login-problem" class="login-problem" role="alert">${loginProblem.value}</p>
    <button type="submit" class="primary"><${Icon} name="key" size=${16} /><span>Log in</span></button>
  </form></main>`;
}
