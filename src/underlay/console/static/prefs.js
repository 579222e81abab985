/** What a person chose for this browser: theme and keyboard shortcuts. Nothing secret is ever stored. */
import { signal } from "./dom.js";

/** @param {string} name */
function read(name) {
  try {
    return localStorage.getItem(`underlay.${name}`);
  } catch {
    return null;
  }
}

/** @param {string} name @param {string | null} value */
function write(name, value) {
  try {
    if (value === null) localStorage.removeItem(`underlay.${name}`);
    else localStorage.setItem(`underlay.${name}`, value);
  } catch {
    // The choice then lasts as long as the page.
  }
}

/** `system`, `light` or `dark`. */
export const theme = signal(read("theme") ?? "system");

/** Whether single letters are shortcuts (people who speak to their browser need to switch them off). */
export const shortcuts = signal(read("shortcuts") !== "off");

const NEXT = { system: "light", light: "dark", dark: "system" };

export function nextTheme() {
  theme.value = NEXT[theme.value] ?? "system";
  if (theme.value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
  write("theme", theme.value === "system" ? null : theme.value);
}

/** @param {boolean} on */
export function setShortcuts(on) {
  shortcuts.value = on;
  write("shortcuts", on ? null : "off");
}
