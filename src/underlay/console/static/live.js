/** Live figures: asked for again and again, shown with their age, and stopped whenever a person wants. */
import { computed, signal, useEffect } from "./dom.js";
import { read } from "./session.js";

/** One switch for the whole console. */
export const paused = signal(false);

/** Ticks each second, for ages and countdowns. */
export const now = signal(Date.now());
setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 1000);

/**
 * A figure that is kept fresh while something shows it.
 * @param {string} path @param {number} everyMs @param {Parameters<typeof read>[1]} [options]
 */
export function feed(path, everyMs, options) {
  const data = signal(null);
  const problem = signal(null);
  const at = signal(0);
  let watchers = 0;
  let timer = 0;

  async function load() {
    clearTimeout(timer);
    try {
      data.value = await read(path, options);
      at.value = now.value = Date.now();
      problem.value = null;
    } catch (error) {
      problem.value = error;
    }
    clearTimeout(timer);
    if (watchers > 0) timer = setTimeout(next, everyMs);
  }

  function next() {
    if (paused.value || document.hidden) timer = setTimeout(next, everyMs);
    else load();
  }

  function use() {
    useEffect(() => {
      watchers += 1;
      if (watchers === 1) load();
      return () => {
        watchers -= 1;
        if (watchers === 0) clearTimeout(timer);
      };
    }, []);
  }

  /** Whether what is shown may no longer be true. */
  const stale = computed(() => problem.value !== null || (at.value > 0 && !paused.value && now.value - at.value > 5 * everyMs + 3000));
  return { data, problem, at, stale, load, use };
}

/** The line at the top of every page lives on this. */
export const platform = feed("/api/platform", 2000);
