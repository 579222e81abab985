/**
 * Answers as nodes: paragraphs, headings, lists, quotes, code, bold, italic.
 *
 * A model's text is a stranger's text, so nothing in it becomes markup, an image or a link that could be
 * followed: addresses stay readable text.
 */
import { html } from "./dom.js";
import { Copy } from "./kit.js";

/** @param {string} text */
export function blocks(text) {
  const out = [];
  const lines = text.split("\n");
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    const fence = /^\s*(```|~~~)\s*([\w+-]*)/.exec(line);
    if (fence) {
      const end = lines.findIndex((candidate, index) => index > at && candidate.trim() === fence[1]);
      const stop = end < 0 ? lines.length : end;
      out.push({ kind: "code", language: fence[2], text: lines.slice(at + 1, stop).join("\n") });
      at = stop + 1;
      continue;
    }
    if (!line.trim()) {
      at += 1;
      continue;
    }
    const kind = kindOf(line);
    const start = at;
    do at += 1; while (at < lines.length && lines[at].trim() && kindOf(lines[at]) === kind && kind !== "heading" && !/^\s*(```|~~~)/.test(lines[at]));
    out.push({ kind, lines: lines.slice(start, at) });
  }
  return out;
}

/** @param {string} line */
function kindOf(line) {
  if (/^#{1,6}\s/.test(line)) return "heading";
  if (/^\s*[-*+]\s+\S/.test(line)) return "bullets";
  if (/^\s*\d{1,3}[.)]\s+\S/.test(line)) return "numbers";
  if (/^>\s?/.test(line)) return "quote";
  return "text";
}

const INLINE = /(`+)(.+?)\1|\*\*(\S(?:.*?\S)?)\*\*|(?<![\w*])[*_](\S(?:.*?\S)?)[*_](?![\w*])/g;

/** Longer runs are no prose, and marks in them are not worth a slow search. */
const INLINE_MAX = 20_000;

/** @param {string} text */
function inline(text) {
  if (text.length > INLINE_MAX) return text;
  const out = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    out.push(text.slice(from, match.index));
    if (match[2] !== undefined) out.push(html`<code>${match[2]}</code>`);
    else if (match[3] !== undefined) out.push(html`<strong>${match[3]}</strong>`);
    else out.push(html`<em>${match[4]}</em>`);
    from = match.index + match[0].length;
  }
  out.push(text.slice(from));
  return out;
}

/** @param {string[]} lines @param {RegExp} mark */
const without = (lines, mark) => lines.map((line) => line.replace(mark, ""));

/** @param {{text: string}} props */
export function Markdown({ text }) {
  return html`<div class="prose">${blocks(text).map(Block)}</div>`;
}

function Block(block) {
  switch (block.kind) {
    case "code":
      return html`<figure class="code">
        <figcaption><span>${block.language || "text"}</span><${Copy} text=${block.text} label="Copy code" compact /></figcaption>
        <pre tabindex="0"><code>${block.text}</code></pre></figure>`;
    case "heading":
      return html`<p class="prose-heading">${inline(block.lines[0].replace(/^#+\s+/, ""))}</p>`;
    case "bullets":
      return html`<ul>${without(block.lines, /^\s*[-*+]\s+/).map((line) => html`<li>${inline(line)}</li>`)}</ul>`;
    case "numbers":
      return html`<ol start=${Number.parseInt(block.lines[0], 10)}>${without(block.lines, /^\s*\d+[.)]\s+/).map((line) => html`<li>${inline(line)}</li>`)}</ol>`;
    case "quote":
      return html`<blockquote>${inline(without(block.lines, /^>\s?/).join("\n"))}</blockquote>`;
    default:
      return html`<p>${inline(block.lines.join("\n"))}</p>`;
  }
}
