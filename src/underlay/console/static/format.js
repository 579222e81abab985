/** Figures as people read them. Every function takes what the JSON carries and returns short text. */

/** @param {number | null | undefined} value milliseconds */
export function ms(value) {
  if (value == null || !Number.isFinite(value)) return "–";
  if (value >= 60_000) return `${Math.floor(value / 60_000)} min ${Math.round((value % 60_000) / 1000)} s`;
  if (value >= 1000) return `${(value / 1000).toFixed(value >= 10_000 ? 1 : 2)} s`;
  if (value >= 100) return `${Math.round(value)} ms`;
  if (value >= 10) return `${value.toFixed(1)} ms`;
  return value < 0.01 ? "<0.01 ms" : `${value.toFixed(2)} ms`;
}

/** @param {number | null | undefined} seconds */
export function span(seconds) {
  if (seconds == null) return "–";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

/** @param {string | number | null | undefined} amount exact decimal dollars; three digits that matter */
export function usd(amount) {
  const value = Number(amount);
  if (amount == null || amount === "" || !Number.isFinite(value)) return "–";
  if (value === 0) return "$0";
  if (value >= 1) return `$${value.toFixed(2)}`;
  const digits = Math.min(12, 2 - Math.floor(Math.log10(value)));
  return `$${value.toFixed(digits).replace(/0+$/, "").replace(/\.$/, "")}`;
}

const GROUPED = new Intl.NumberFormat("en");

/** @param {number | null | undefined} value */
export function count(value) {
  return value == null ? "–" : GROUPED.format(value);
}

/** @param {number} value @param {string} one @param {string} [many] */
export function plural(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** @param {number} tokens @param {number} milliseconds */
export function rate(tokens, milliseconds) {
  if (!(milliseconds > 0) || tokens < 1) return "–";
  const perSecond = (tokens * 1000) / milliseconds;
  return `${perSecond >= 100 ? Math.round(perSecond) : perSecond.toFixed(1)} tok/s`;
}

/** @param {number | null | undefined} megabytes */
export function memory(megabytes) {
  if (megabytes == null) return "–";
  return megabytes >= 1024 ? `${(megabytes / 1024).toFixed(1)} GB` : `${Math.round(megabytes)} MB`;
}

const PREFIXES = [[1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]];

/** A value with the prefix that leaves it above 1: 187 µg. @param {number | null | undefined} value @param {string} unit */
export function scaled(value, unit) {
  if (value == null || !Number.isFinite(value)) return "–";
  const [scale, prefix] = PREFIXES.find(([least]) => Math.abs(value) >= least) ?? (value === 0 ? PREFIXES[0] : PREFIXES[3]);
  return `${Number((value / scale).toPrecision(3))} ${prefix}${unit}`;
}

/** @param {number} ratio */
export function percent(ratio) {
  const value = ratio * 100;
  if (value > 0 && value < 1) return "<1 %";
  return `${Math.round(value)} %`;
}

/** @param {number} atS Unix seconds */
export function clock(atS) {
  return new Date(atS * 1000).toLocaleTimeString(undefined, { hour12: false });
}

/** @param {number} atS Unix seconds */
export function moment(atS) {
  return new Date(atS * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** @param {string} code as in `rate_limit_exceeded` */
export function words(code) {
  return code.replaceAll("_", " ");
}
