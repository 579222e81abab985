/** The keyboard, the same on every page: `g` then a letter goes somewhere, `?` tells the rest. */
import { signal } from "./dom.js";
import { shortcuts } from "./prefs.js";
import { paused } from "./live.js";
import { go } from "./router.js";

export const helpOpen = signal(false);

const PLACES = { c: "/", j: "/journeys", f: "/fleet" };

/** @type {Map<string, () => void>} */
const pageKeys = new Map();

/** Give the page shown its own keys; returns what takes them away again.
 * @param {Record<string, () => void>} bindings */
export function bind(bindings) {
  for (const [key, act] of Object.entries(bindings)) pageKeys.set(key, act);
  return () => {
    for (const [key, act] of Object.entries(bindings)) if (pageKeys.get(key) === act) pageKeys.delete(key);
  };
}

let awaitingPlace = 0;

/** @param {EventTarget | null} target */
function isTyping(target) {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
  if (event.key === "Escape") {
    pageKeys.get("Escape")?.();
    return;
  }
  if (isTyping(event.target) || !shortcuts.value || document.querySelector("dialog[open]")) return;
  // Space and Enter belong to the control that has the focus.
  if ((event.key === " " || event.key === "Enter") && event.target !== document.body) return;
  const act = actionFor(event.key);
  if (act) {
    event.preventDefault();
    act();
  }
}

/** @param {string} key */
function actionFor(key) {
  if (Date.now() - awaitingPlace < 1200) {
    awaitingPlace = 0;
    const place = PLACES[key];
    if (place) return () => go(place);
  }
  if (key === "g") return () => { awaitingPlace = Date.now(); };
  if (key === "?") return () => { helpOpen.value = true; };
  if (key === " ") return () => { paused.value = !paused.value; };
  return pageKeys.get(key);
}

addEventListener("keydown", onKey);
