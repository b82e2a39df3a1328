// A node's drain: ordering one, watching how far it is, and taking it back.

import { call, path, query } from "./api.js";
import { ago, secondsSince } from "./clock.js";
import { ask } from "./dialog.js";
import { h, name, put, setText, visible } from "./dom.js";
import * as fleet from "./fleet.js";
import { count, duration, plural } from "./format.js";
import { Section } from "./page.js";
import { button, facts, field, pill, select, text } from "./parts.js";

const KINDS = {
  none: "off", handover: "info", settling: "info", forcing: "warn", drained: "ok", held: "warn",
  canceled: "off",
};
const UNDER_WAY = new Set(["handover", "settling", "forcing", "held"]);

export function drainState(state) {
  return pill(KINDS[state] ?? "info", visible(state));
}

/** The drain of one node as a section of its page. */
export function drainSection(id, node, changed) {
  const buttons = h("span", { class: "button-row" });
  const figures = h("div");
  const progress = new Progress();
  let last = "";
  const section = new Section({
    title: "Drain", seconds: 1, actions: buttons,
    load: async (signal) => {
      const { data: drain, etag } = await call("GET", path("nodes", id, "drain"), { signal });
      if (signal.aborted) return;
      const said = JSON.stringify([drain, etag]);
      if (said !== last) {
        last = said;
        showButtons(buttons, { id, node, drain, etag, changed });
        put(figures, drain.state === "none" ? h("p", { class: "muted" }, "This node was never drained.")
          : drainFacts(drain));
      }
      progress.update(drain);
      section.show(...(UNDER_WAY.has(drain.state) ? [progress.element, figures] : [figures]));
    },
  });
  return section;
}

function showButtons(element, { id, node, drain, etag, changed }) {
  const isUnderWay = UNDER_WAY.has(drain.state);
  const mayCancel = isUnderWay || drain.state === "drained";
  put(element,
    isUnderWay && button(
      "Change…", () => askToDrain(node() ?? { node_id: id }, { drain, etag }, changed), { kind: "small" }),
    mayCancel && button(
      isUnderWay ? "Cancel drain…" : "Take back…", () => askToCancel(id, etag, changed), { kind: "small" }));
}

class Progress {
  #bar = h("progress", { max: "1" });
  #text = h("p", { class: "progress-text", role: "status" });
  #countdown = h("p", { class: "muted" });
  element = h("div", { class: "drain-progress" }, this.#text, this.#bar, this.#countdown);

  update(drain) {
    const done = drain.devices_total - drain.devices_remaining;
    this.#bar.max = Math.max(1, drain.devices_total);
    this.#bar.value = drain.devices_total === 0 ? 1 : done;
    this.#bar.setAttribute("aria-label", "Devices that have left");
    setText(this.#text, `${count(done)} of ${plural(drain.devices_total, "device")} have left, `
      + `${plural(drain.conns_remaining, "conn")} still open`);
    const left = drain.deadline_at ? -secondsSince(drain.deadline_at) : null;
    const rest = drain.eta_seconds > 0 ? `, done in ${estimate(drain)}` : "";
    setText(this.#countdown, left === null ? "" : left > 0
      ? `Deadline in ${duration(left)}${rest}` : "The deadline has passed");
  }
}

/** What the estimate rests on: a rate that was measured is worth more than one that was ordered. */
const BASES = {
  measured_rate: "at the rate measured",
  set_rate: "at the rate set",
  taker_rate: "at the rate that other nodes take",
  oldest_conn: "by the oldest conn",
  deadline: "by the deadline",
};

function estimate({ eta_seconds: seconds, eta_basis: basis }) {
  const rests = BASES[basis];
  return `about ${duration(seconds)}${rests ? ` ${rests}` : ""}`;
}

export function drainFacts(drain) {
  return facts([
    ["State", drainState(drain.state)],
    ["Started", ago(drain.started_at)],
    ["Deadline", ago(drain.deadline_at)],
    ["Ordered by", text(drain.actor)],
    ["Reason", text(drain.reason)],
    ["Devices", `${count(drain.devices_moved)} moved, ${count(drain.devices_remaining)} left, `
      + `${count(drain.devices_total)} in all`],
    ["Conns", `${count(drain.conns_remaining)} open, ${count(drain.conns_cut)} cut`],
    ["Blocked by", said(drain.blockers)],
    ["Targets", said(drain.targets)],
  ]);
}

/** A list whose members may be words or objects, in one line. */
function said(values) {
  if (!Array.isArray(values) || values.length === 0) return null;
  return name(values.map((value) => (value !== null && typeof value === "object"
    ? Object.values(value).join(" ") : String(value))).join(", "));
}

/** Orders a drain; `present` is the one under way, with its version, when it is to be changed. */
export function askToDrain(node, present, done) {
  const number = (value) => h("input", { type: "number", min: "0", step: "1", value });
  const others = fleet.current().nodes.filter(
    (each) => each.node_id !== node.node_id && !fleet.isStale(each));
  const targets = h("select", { multiple: true, size: String(Math.min(5, Math.max(2, others.length))) },
    others.map((each) => h("option", { value: each.node_id },
      `${visible(each.node_id)} (${plural(each.devices_online, "device")})`)));
  const fields = {
    deadline_seconds: field(
      "Deadline in seconds", number("300"), { hint: "What is left then is closed, or held." }),
    devices_per_second: field("Devices a second", number("50"), { hint: "How fast they are told to leave." }),
    on_deadline: field(
      "At the deadline", select([["cut", "Close what is left"], ["hold", "Keep what is left"]], "cut")),
    ...(others.length > 0 && {
      redirect_to: field(
        "Send devices to", targets, { hint: "None chosen: each device looks for a node itself." }),
    }),
  };
  const body = () => ({
    deadline_seconds: Number(fields.deadline_seconds.control.value),
    devices_per_second: Number(fields.devices_per_second.control.value),
    redirect_to: [...targets.selectedOptions].map((option) => option.value),
    // The default is left to the node: an older one knows nothing else.
    ...(fields.on_deadline.control.value !== "cut" && { on_deadline: fields.on_deadline.control.value }),
  });
  ask({
    title: `${present ? "Change the drain of" : "Drain"} ${visible(node.node_id)}?`,
    text: "It takes no new device or conn, and its devices are told to leave.",
    fields, action: present ? "Change drain" : "Start drain", danger: true, done,
    success: `The drain of ${visible(node.node_id)} has ${present ? "changed" : "begun"}.`,
    extra: {
      label: "Preview",
      run: async () => previewText((await call(
        "POST", path("nodes", node.node_id, "drain", "preview"), { body: body() })).data),
    },
    run: ({ reason, key }) => call("POST", path("nodes", node.node_id, "drain"), {
      body: body(), reason, key, ifMatch: present?.etag,
    }),
  });
}

function previewText(preview) {
  const parts = [
    h("p", {}, `${plural(preview.devices_total, "device")} in ${estimate(preview)}; `
      + `${count(preview.conns_likely_cut)} of ${plural(preview.conns_total, "conn")} likely cut.`),
  ];
  if (preview.targets?.length > 0) {
    parts.push(h("ul", {}, preview.targets.map((target) => h("li", {}, name(target.node_id),
      ` takes ${plural(target.devices_taken, "device")} and has ${count(target.devices_after)} then`))));
  }
  return parts;
}

function askToCancel(id, etag, done) {
  const keep = field("Keep it cordoned", h("input", { type: "checkbox" }));
  ask({
    title: `Take back the drain of ${visible(id)}?`,
    text: "It takes devices and conns again. Devices that were told already may still leave.",
    fields: { eligibility: keep }, action: "Take back", done,
    success: `The drain of ${visible(id)} was taken back.`,
    run: ({ reason, key }) => call(
      "DELETE", path("nodes", id, "drain") + query({ eligibility: keep.control.checked ? "keep" : "" }),
      { reason, key, ifMatch: etag }),
  });
}

