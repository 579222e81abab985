/** Which page is shown: the address is the state, so every view can be shared and gone back to. */
import { computed, signal } from "./dom.js";

const here = signal(location.pathname + location.search);

addEventListener("popstate", () => {
  here.value = location.pathname + location.search;
});

/** @param {string} to @param {{replace?: boolean}} [how] */
export function go(to, { replace = false } = {}) {
  if (to === here.value) return;
  history[replace ? "replaceState" : "pushState"](null, "", to);
  here.value = to;
  if (!replace) scrollTo(0, 0);
}

/** @param {Record<string, string>} changes an empty value removes the parameter */
export function setQuery(changes) {
  const url = new URL(here.value, location.origin);
  for (const [name, value] of Object.entries(changes)) {
    if (value) url.searchParams.set(name, value);
    else url.searchParams.delete(name);
  }
  go(url.pathname + url.search, { replace: true });
}

export const query = computed(() => new URL(here.value, location.origin).searchParams);

/** `{page: "chat" | "journeys" | "journey" | "fleet", id}` */
export const route = computed(() => {
  const [page, id] = new URL(here.value, location.origin).pathname.slice(1).split("/");
  if (page === "journeys" && id) return { page: "journey", id: decodeURIComponent(id) };
  return { page: page || "chat", id: "" };
});

/** Links stay links (open in a new tab works); a plain click does not reload the page.
 * @param {MouseEvent} event */
export function follow(event) {
  const link = event.target instanceof Element ? event.target.closest("a[href^='/']") : null;
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  if (!link || !plain || event.defaultPrevented || link.hasAttribute("target")) return;
  event.preventDefault();
  go(link.getAttribute("href") ?? "/");
}
