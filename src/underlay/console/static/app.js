/** Begins everything: draws the frame and finds out whether somebody is logged in. */
import { html, render } from "./dom.js";
import { begin } from "./session.js";
import { Shell } from "./shell.js";

render(html`<${Shell} />`, document.getElementById("app"));
begin();
