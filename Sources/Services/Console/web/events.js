// What happens, as it happens.

import { ago } from "./clock.js";
import { h, name, put, setText, visible } from "./dom.js";
import { bytes, count, plural } from "./format.js";
import { button, deviceLink, empty, nodeLink, pill, problemBox } from "./parts.js";
import { replaceQuery } from "./route.js";
import { EventStream } from "./stream.js";

const TYPES = [
  "device.online", "device.offline", "conn.opened", "conn.closed", "node.state", "drain.progress",
];
const COLUMNS = ["When", "Type", "Node", "What"];
/** More rows than anybody reads; older ones leave. */
const MOST_ROWS = 500;
/** While paused this many wait; then it is only counted how many went by. */
const MOST_WAITING = 5000;

const KINDS = {
  "device.online": "ok", "device.offline": "warn", "conn.opened": "info", "conn.closed": "off",
  "node.state": "warn", "drain.progress": "info", gap: "bad", evicted: "bad",
};

export function eventsView(page) {
  page.title("Events");
  page.isFedByItself();
  const log = new EventLog();
  const state = h("p", { class: "stream-state", role: "status" });
  const problems = h("div");
  let stream = null;
  const wanted = (page.route.query.get("types") ?? "").split(",");
  const chosen = new Set(wanted.filter((type) => TYPES.includes(type)));
  const connect = () => {
    stream?.close();
    stream = new EventStream({
      types: [...chosen], onEvent: (event) => log.add(event), onState: (kind, problem) => {
        put(state, streamState(kind));
        put(problems, kind === "refused"
          ? problemBox(problem, { retry: button("Try again", connect) }) : null);
      },
    });
    stream.start();
  };
  const pause = button("Pause", () => {
    log.pause(!log.isPaused);
    setText(pause, log.isPaused ? "Resume" : "Pause");
    pause.setAttribute("aria-pressed", String(log.isPaused));
  });
  page.actions(state, pause, button("Clear", () => log.clear(), { kind: "quiet" }));
  const choose = (type, isOn) => {
    if (isOn) chosen.add(type);
    else chosen.delete(type);
    replaceQuery(new URLSearchParams(chosen.size > 0 ? { types: [...chosen].join(",") } : {}));
    connect();
  };
  page.add(h("fieldset", { class: "filters types" }, h("legend", {}, "Types (none chosen: all)"),
    TYPES.map((type) => h("label", { class: "check" }, h("input", {
      type: "checkbox", checked: chosen.has(type),
      on: { change: (event) => choose(type, event.target.checked) },
    }), type))), problems, log.element);
  connect();
  page.onLeave(() => stream.close());
}

function streamState(kind) {
  switch (kind) {
    case "live": return pill("ok", "live");
    case "connecting": return pill("info", "connecting");
    case "waiting": return pill("warn", "connection lost, trying again");
    default: return pill("bad", "stopped");
  }
}

class EventLog {
  element = h("section");
  isPaused = false;
  #rows = h("tbody");
  #waiting = [];
  #passed = 0;
  #pending = [];
  #isScheduled = false;
  #status = h("p", { class: "fresh muted", role: "status" });
  #empty = empty("Nothing has happened yet", "New events appear here at once.");
  #table = h("div", {
    class: "table-box", tabindex: "0", role: "region", "aria-label": "Events, newest first",
  }, h("table", { class: "events" }, h("caption", { class: "unseen" }, "Events, newest first"),
    h("thead", {}, h("tr", {}, COLUMNS.map((title) => h("th", { scope: "col" }, title)))), this.#rows));

  constructor() {
    this.element.append(this.#status, this.#empty);
  }

  add(event) {
    if (this.isPaused) {
      if (this.#waiting.length < MOST_WAITING) this.#waiting.push(event);
      else this.#passed += 1;
      return this.#showStatus();
    }
    this.#pending.push(event);
    // A burst is drawn once a frame, however many events it has.
    if (this.#isScheduled) return undefined;
    this.#isScheduled = true;
    return requestAnimationFrame(() => this.#draw());
  }

  pause(isPaused) {
    this.isPaused = isPaused;
    if (!isPaused) {
      this.#pending.push(...this.#waiting);
      if (this.#passed > 0) this.#pending.push({ type: "gap", data: '{"cause":"paused for long"}' });
      this.#waiting = [];
      this.#passed = 0;
      this.#draw();
    }
    this.#showStatus();
  }

  clear() {
    put(this.#rows);
    this.#waiting = [];
    this.#passed = 0;
    put(this.element, this.#status, this.#empty);
    this.#showStatus();
  }

  #draw() {
    this.#isScheduled = false;
    const rows = this.#pending.slice(-MOST_ROWS).reverse().map(row);
    this.#pending = [];
    if (rows.length === 0) return;
    this.#rows.prepend(...rows);
    while (this.#rows.childElementCount > MOST_ROWS) this.#rows.lastElementChild.remove();
    if (!this.#table.isConnected) put(this.element, this.#status, this.#table);
  }

  #showStatus() {
    setText(this.#status, this.isPaused
      ? `Paused; ${plural(this.#waiting.length + this.#passed, "event")} came since` : "");
  }
}

function row(event) {
  let data = null;
  try {
    data = JSON.parse(event.data);
  } catch {
    // Shown as it came.
  }
  const isObject = data !== null && typeof data === "object";
  return h("tr", { class: ["gap", "evicted"].includes(event.type) ? "stale-row" : "" },
    h("td", { "data-label": "When" }, isObject ? ago(data.at) : null),
    h("td", { "data-label": "Type" }, pill(KINDS[event.type] ?? "info", visible(event.type))),
    h("td", { "data-label": "Node" }, isObject ? nodeLink(data.node_id) : null),
    h("td", { class: "wide", "data-label": "What" }, isObject ? what(event.type, data) : name(event.data)));
}

function what(type, data) {
  switch (type) {
    case "device.online": return [deviceLink(data.device_id), " came online"];
    case "device.offline":
      return [deviceLink(data.device_id), " went offline", ending(data)];
    case "conn.opened":
      return [name(data.client_address ?? ""), " to ", name(data.target ?? ""), " through ",
        deviceLink(data.device_id)];
    case "conn.closed":
      return [name(data.target ?? ""), " through ", deviceLink(data.device_id),
        ` ended, ${bytes(data.bytes_sent)} up, ${bytes(data.bytes_received)} down`, ending(data)];
    case "node.state": return ["is ", reason(data.state)];
    case "drain.progress":
      return [reason(data.state),
        `: ${count(data.devices_remaining)} devices and ${count(data.conns_remaining)} conns left`];
    case "gap": return ["Some events were missed here", data.cause ? [": ", reason(data.cause)] : null];
    case "evicted": return "This stream was too slow and has been ended by the node";
    default: return name(JSON.stringify(data));
  }
}

function ending(data) {
  return data.end_reason ? [": ", reason(data.end_reason)] : null;
}

function reason(value) {
  return name(String(value ?? "").replaceAll("_", " "));
}
