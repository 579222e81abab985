/** A few line icons. They only repeat what a word beside them or a label says. */
import { html } from "./dom.js";

const PATHS = {
  chat: "M4 5.5A1.5 1.5 0 0 1 5.5 4h9A1.5 1.5 0 0 1 16 5.5v6a1.5 1.5 0 0 1-1.5 1.5H9l-3.5 3v-3A1.5 1.5 0 0 1 4 11.5z",
  journeys: "M3.5 5h6M6.5 10h7M10.5 15h6",
  fleet: "M3.5 4h13v4.5h-13zM3.5 11.5h13V16h-13zM6.5 6.25h.01M6.5 13.75h.01",
  layers: "M3 7.5 10 4l7 3.5L10 11zM3 11l7 3.5 7-3.5",
  send: "M10 16V4.5M5 9.5l5-5 5 5",
  stop: "M6 6h8v8H6z",
  copy: "M7.5 7.5h8v8h-8zM12.5 7.5v-3h-8v8h3",
  check: "m4.5 10.5 3.5 3.5 7.5-8",
  again: "M15.5 10a5.5 5.5 0 1 1-1.7-4M15.5 3.5v3.2h-3.2",
  edit: "m12.5 4.5 3 3-8 8h-3v-3z",
  plus: "M10 4.5v11M4.5 10h11",
  pause: "M7.5 5v10M12.5 5v10",
  play: "M7 4.5v11l8-5.5z",
  help: "M7.5 7.7a2.5 2.5 0 1 1 3.6 2.2c-.7.4-1.1.8-1.1 1.6M10 14.3h.01",
  system: "M3.5 4.5h13v8.5h-13zM7.5 16h5",
  light: "M10 7a3 3 0 1 1 0 6 3 3 0 0 1 0-6zM10 2.5v1.5M10 16v1.5M2.5 10H4M16 10h1.5M4.7 4.7l1 1M14.3 14.3l1 1M4.7 15.3l1-1M14.3 5.7l1-1",
  dark: "M15.5 12A6.5 6.5 0 0 1 8 4.5a6 6 0 1 0 7.5 7.5z",
  leave: "M8 4.5H4.5v11H8M11.5 6.5 15 10l-3.5 3.5M15 10H8",
  back: "m9.5 5-5 5 5 5M4.5 10h11",
  down: "m5.5 8 4.5 4.5L14.5 8",
  sliders: "M4 6.5h6M14 6.5h2M4 13.5h2M10 13.5h6M10 4.5h4v4h-4zM6 11.5h4v4H6z",
  warn: "M10 3.5 17 16H3zM10 8.5v3.5M10 14h.01",
  cross: "m5.5 5.5 9 9M14.5 5.5l-9 9",
  clock: "M10 3.5a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13zM10 6.5V10l2.5 1.5",
  ring: "M10 4.5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11z",
  link: "M8.5 11.5l3-3M9 6.5l1.5-1.5a3 3 0 0 1 4.5 4.5L13.5 11M11 13.5 9.5 15A3 3 0 0 1 5 10.5L6.5 9",
  key: "M12.5 4a3.5 3.5 0 1 1-2.9 5.5L4 15v1.5h2.5V15H8v-1.5h1.5L11 12M13.2 7h.01",
};

/** @param {{name: keyof typeof PATHS, size?: number}} props */
export function Icon({ name, size = 18 }) {
  return html`<svg class="icon" viewBox="0 0 20 20" width=${size} height=${size} aria-hidden="true" focusable="false">
    <path d=${PATHS[name] ?? PATHS.ring} />
  </svg>`;
}
