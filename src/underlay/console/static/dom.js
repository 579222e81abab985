/** The one place that knows which libraries draw the page. */
import { h } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

export { render, Fragment } from "./vendor/preact.js";
export { useEffect, useRef, useState, useMemo, useCallback, useLayoutEffect } from "./vendor/hooks.js";
export { signal, computed, effect, batch } from "./vendor/signals-core.js";
export { useSignal, useComputed } from "./vendor/signals.js";

/** Tagged template that makes virtual nodes: no compile step, no strings parsed as HTML by the browser. */
export const html = htm.bind(h);
