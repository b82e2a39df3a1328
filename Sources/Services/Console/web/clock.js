// The node's time, and texts that grow old. Ages are measured on the node's clock, which the Date field of
// its answers tells: an operator's clock may be minutes off.

import { h, setText } from "./dom.js";
import { age, duration, NONE, utc } from "./format.js";

// The Date field has whole seconds, so a smaller difference says nothing.
const LEAST_SKEW_MILLISECONDS = 2000;
let skew = 0;

/** Learns the node's clock from an answer. */
export function learnClock(dateField) {
  const told = Date.parse(dateField ?? "");
  if (Number.isNaN(told)) return;
  const difference = told + 500 - Date.now();
  skew = Math.abs(difference) < LEAST_SKEW_MILLISECONDS ? 0 : difference;
}

/** Milliseconds since 1970 by the node's clock. */
export function now() {
  return Date.now() + skew;
}

export function secondsSince(text) {
  const at = Date.parse(text ?? "");
  return Number.isNaN(at) ? null : (now() - at) / 1000;
}

/** An element that shows how long ago a time was, and in its title when. */
export function ago(text) {
  return aging(text, "ago");
}

/** The same as a length of time: for how long something has been. */
export function since(text) {
  return aging(text, "for");
}

function aging(text, manner) {
  if (!text) return h("span", { class: "muted" }, NONE);
  const element = h("time", { datetime: text, title: utc(text), "data-manner": manner });
  show(element);
  return element;
}

function show(element) {
  const seconds = secondsSince(element.dateTime);
  setText(element, element.dataset.manner === "for" ? duration(seconds) : age(seconds));
}

/** Keeps every age in the document current. */
export function startClock() {
  setInterval(() => {
    if (!document.hidden) document.querySelectorAll("time[data-manner]").forEach(show);
  }, 1000);
}
