// Small pieces that every view is made of.

import { h, name, newID, put, visible } from "./dom.js";
import { count, NONE } from "./format.js";
import { link } from "./route.js";
import * as fleet from "./fleet.js";

/** A state as a word with a coloured mark; the word alone says it all. */
export function pill(kind, text, title = null) {
  return h("span", { class: `pill ${kind}`, title }, text);
}

const NODE_KINDS = { active: "ok", cordoned: "warn", draining: "warn", drained: "off", down: "bad" };

export function nodeState(state) {
  return pill(NODE_KINDS[state] ?? "info", visible(state));
}

const HEALTH = {
  whole: ["ok", "online"],
  control_only: ["warn", "control only"],
  data_only: ["warn", "data only"],
};

/** Whether a device is there, and with which of its planes; on a node that is down nobody knows. */
export function deviceState(device) {
  const pills = [];
  if (device.status !== "online") {
    pills.push(pill("off", "offline"));
  } else if (fleet.isDown(device.node_id)) {
    pills.push(pill("bad", "node down", "As of before its node went down"));
  } else pills.push(pill(...(HEALTH[device.health] ?? ["ok", "online"])));
  if (device.enabled === false) pills.push(pill("bad", "disabled"));
  return h("span", { class: "pills" }, pills);
}

export function deviceStateText(device) {
  return [device.status, device.health, device.enabled, fleet.isDown(device.node_id)].join();
}

export function deviceLink(id) {
  return id ? h("a", { href: link("devices", id) }, name(id)) : none();
}

export function nodeLink(id) {
  return id ? h("a", { href: link("nodes", id) }, name(id)) : none();
}

export function none() {
  return h("span", { class: "muted" }, NONE);
}

/** A foreign text, or a dash where there is none. */
export function text(value) {
  return value === null || value === undefined || value === "" ? none() : name(value);
}

/** Ids of machines: short in tables, whole in the title and when copied. */
export function shortID(id) {
  return id ? h("code", { title: visible(id) }, visible(id).slice(0, 8)) : none();
}

const MOST_TAGS_IN_ROW = 3;

export function tags(values, onPick = null) {
  const shown = onPick ? values.slice(0, MOST_TAGS_IN_ROW) : values;
  const rest = values.length - shown.length;
  return h("span", { class: onPick ? "tags row" : "tags" },
    shown.map((tag) => (onPick
      ? h("button", { type: "button", class: "tag", title: `Show devices tagged ${visible(tag)}`, on: {
        click: () => onPick(tag),
      } }, name(tag))
      : h("span", { class: "tag" }, name(tag)))),
    rest > 0 && h("span", { class: "muted", title: values.slice(MOST_TAGS_IN_ROW).map(visible).join(", ") },
      `+${rest}`));
}

/** A share of a whole, drawn and written. */
export function meter(fraction, label) {
  if (typeof fraction !== "number") return none();
  const bounded = Math.min(1, Math.max(0, fraction));
  const level = bounded > 0.9 ? "bad" : bounded > 0.75 ? "warn" : "ok";
  const bar = h("span", { class: `bar ${level}` });
  bar.style.width = `${bounded * 100}%`;
  return h("span", { class: "meter" }, h("span", { class: "track", "aria-hidden": "true" }, bar), label);
}

/** Conns of a device beside what it takes at most. */
export function connsOf(device) {
  return device.capacity > 0
    ? `${count(device.active_conns)} / ${count(device.capacity)}` : count(device.active_conns);
}

export function button(label, onClick, { kind = "", title = null } = {}) {
  return h("button", {
    type: "button", class: `button ${kind}`.trim(), title, on: { click: onClick },
  }, label);
}

/** Names and values; a value is a node or text. */
export function facts(entries) {
  return h("dl", { class: "facts" }, entries.map(([term, value]) => h("div", {}, h("dt", {}, term),
    h("dd", {}, value === null || value === undefined || value === "" ? none() : value))));
}

/** A field with its label, a hint, and room for what the node says against its value. */
export function field(label, control, { hint = null } = {}) {
  const id = newID("field");
  const fault = h("p", { class: "fault", id: `${id}-fault`, hidden: true });
  control.id = id;
  const described = hint ? `${id}-hint ${id}-fault` : `${id}-fault`;
  control.setAttribute("aria-describedby", described);
  const element = h("div", { class: control.type === "checkbox" ? "field check" : "field" },
    h("label", { for: id }, label), control,
    hint && h("p", { class: "hint", id: `${id}-hint` }, hint), fault);
  return {
    element,
    control,
    show(message) {
      put(fault, message ?? "");
      fault.hidden = !message;
      if (message) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    },
  };
}

export function select(options, value) {
  return h("select", {}, options.map(([key, label]) => h("option", {
    value: key, selected: key === value,
  }, label)));
}

/** A refusal or fault, with all that the node told about it. */
export function problemBox(problem, { asOf = null, retry = null } = {}) {
  const [title, kind] = headline(problem);
  return h("div", { class: `box ${kind}`, role: "alert" },
    h("p", { class: "box-title" }, title),
    h("p", {}, visible(problem.detail ?? problem.message)),
    problem.errors?.length > 0 && h("ul", {}, problem.errors.map((fault) => h("li", {},
      fault.field ? h("code", {}, visible(fault.field)) : null, fault.field ? " " : null,
      visible(fault.message)))),
    asOf && h("p", {}, "What is shown here is from ", asOf, "."),
    h("p", { class: "box-small" }, problem.code ? ["Code ", h("code", {}, visible(problem.code))] : null,
      problem.status ? ` · HTTP ${problem.status}` : null,
      problem.requestID ? [" · Request ", h("code", {}, visible(problem.requestID))] : null,
      problem.retryAfter ? ` · Try again in ${visible(problem.retryAfter)} s` : null),
    retry && h("p", {}, retry));
}

function headline(problem) {
  if (problem.isDatabaseAway) return ["The database is away", "warn"];
  if (problem.isNotOffered) return ["Not offered by this node", "info"];
  switch (problem.status) {
    case 0:
      return [problem.code === "unreachable" ? "The node does not answer" : "This can't be done here", "bad"];
    case 403: return ["This token may not do that", "bad"];
    case 404: return ["There is no such thing", "info"];
    case 409: return ["That does not fit its state", "warn"];
    case 412: return ["It has changed meanwhile", "warn"];
    case 422: return ["Some values don't fit", "bad"];
    case 429: return ["Too many attempts", "warn"];
    case 503: return ["Not available now", "warn"];
    default: return ["That did not work", "bad"];
  }
}

export function empty(text, detail = null) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, text), detail && h("p", {}, detail));
}
