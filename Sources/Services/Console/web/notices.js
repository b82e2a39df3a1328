// Short messages in a corner about what was done. They stand in a live region, so that they are read out.

import { h } from "./dom.js";

const SHOWN_MILLISECONDS = 8000;
const MOST_NOTICES = 4;

export function notify(message, kind = "ok") {
  const region = document.getElementById("notices");
  const notice = h("div", { class: `notice ${kind}` }, h("p", {}, message),
    h("button", {
      type: "button", class: "close", "aria-label": "Dismiss", on: { click: () => notice.remove() },
    }, "×"));
  region.append(notice);
  while (region.children.length > MOST_NOTICES) region.firstElementChild.remove();
  setTimeout(() => notice.remove(), SHOWN_MILLISECONDS);
}
