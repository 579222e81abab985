/** The cheat sheet. */
import { html } from "./dom.js";
import { helpOpen } from "./keys.js";
import { Dialog } from "./kit.js";
import { Icon } from "./icons.js";
import { setShortcuts, shortcuts } from "./prefs.js";

/** @type {[string, [string, string][]][]} */
const GROUPS = [
  ["Anywhere", [["g c", "Chat"], ["g j", "Journeys"], ["g f", "Fleet"], ["/", "To the box or the filter"], ["Space", "Hold live figures still"], ["?", "This sheet"]]],
  ["Chat", [["Enter", "Send"], ["Shift Enter", "New line"], ["Esc", "Stop the answer"], ["↑", "Edit the last question"], ["n", "New conversation"]]],
  ["Journeys", [["j", "Next"], ["k", "Previous"], ["Enter", "Open"], ["Esc", "Back to the list"], ["↑ ↓", "Along the hops"]]],
];

export function HelpDialog() {
  const close = () => { helpOpen.value = false; };
  return html`<${Dialog} open=${helpOpen.value} onClose=${close} label="Keyboard">
    <div class="dialog-head"><h2>Keyboard</h2><button type="button" class="quiet" onClick=${close} aria-label="Close"><${Icon} name="cross" /></button></div>
    <div class="help-groups">${GROUPS.map(([title, keys]) => html`<section><h3>${title}</h3><dl>${keys.map(([key, what]) => html`<div>
      <dt>${key.split(" ").map((part) => html`<kbd>${part}</kbd> `)}</dt><dd>${what}</dd></div>`)}</dl></section>`)}</div>
    <label class="check"><input type="checkbox" checked=${shortcuts.value} onChange=${(event) => setShortcuts(event.currentTarget.checked)} /><span>Single letters are shortcuts</span></label>
  </${Dialog}>`;
}
