// Live conns: who goes where through which device, and ending them.

import { all, call, path } from "./api.js";
import { now, secondsSince, since } from "./clock.js";
import { ask } from "./dialog.js";
import { name, visible } from "./dom.js";
import { FilterBar } from "./filters.js";
import * as fleet from "./fleet.js";
import { count, duration, plural, rate, upDown } from "./format.js";
import { List } from "./list.js";
import { button, deviceLink, field, nodeLink, pill, select, shortID, text } from "./parts.js";

const FILTERS = ["device_id", "node_id", "user", "protocol", "target"];
const PROTOCOLS = [["socks5", "SOCKS5"], ["http", "HTTP CONNECT"], ["udp", "UDP"]];

export function connsView(page) {
  page.title("Live conns");
  const list = connList({ query: page.route.query, isInAddress: true });
  page.actions(button("Close by filter…", () => askToCloseMatching(list), { kind: "danger" }));
  page.add(new FilterBar([
    { name: "device_id", label: "Device", kind: "text", placeholder: "exact id" },
    { name: "target", label: "Target", kind: "text", placeholder: "host or host:port" },
    { name: "user", label: "User", kind: "text" },
    { name: "protocol", label: "Protocol", kind: "choice", options: PROTOCOLS },
    { name: "node_id", label: "Node", kind: "text", placeholder: "id or self" },
  ], list).element, list.section);
}

/** The list for this page, and for the page of one device. */
export function connList({ fixed = {}, query, isInAddress, title, limit }) {
  const rates = new Rates();
  const list = new List({
    target: "conns", fixed, query, isInAddress, title, limit, seconds: 3,
    key: (conn) => conn.conn_id,
    caption: "Live conns",
    noun: "conn",
    emptyText: "No live conns",
    emptyDetail: "Conns appear here while clients use the fleet; ended ones are kept in the database.",
    rowClass: (conn) => (fleet.isDown(conn.node_id) ? "stale-row" : ""),
    onRows: (conns) => rates.learn(conns),
    columns: [
      { title: "Target", text: (conn) => conn.target, cell: (conn) => name(conn.target), wide: true },
      ...(fixed.device_id ? [] : [
        {
          title: "Device", text: (conn) => conn.device_id, cell: (conn) => deviceLink(conn.device_id),
          wide: true,
        },
        { title: "Node", text: (conn) => conn.node_id, cell: (conn) => nodeLink(conn.node_id) },
      ]),
      { title: "User", text: (conn) => conn.user, cell: (conn) => text(conn.user) },
      { title: "Client", text: (conn) => conn.client_address, cell: (conn) => name(conn.client_address) },
      { title: "Protocol", text: (conn) => conn.protocol },
      { title: "State", text: (conn) => `${conn.state} ${fleet.isDown(conn.node_id)}`, cell: connState },
      { title: "Open for", text: (conn) => conn.opened_at, cell: (conn) => since(conn.opened_at) },
      { title: "Idle", text: (conn) => duration(conn.idle_seconds), numeric: true },
      { title: "Up / down", text: (conn) => upDown(conn.bytes_sent, conn.bytes_received), numeric: true },
      { title: "Rate", text: (conn) => rate(rates.of(conn)), numeric: true },
      { title: "Conn", text: (conn) => conn.conn_id, cell: (conn) => shortID(conn.conn_id) },
      {
        title: "Actions", actions: true, text: () => "close",
        cell: (conn, current) => button(
          "Close…", () => askToClose(current(), () => list.refresh()), { kind: "small" }),
      },
    ],
  });
  return list;
}

function connState(conn) {
  if (fleet.isDown(conn.node_id)) return pill("bad", "node down");
  return conn.state === "open" ? pill("ok", "open") : pill("info", visible(conn.state));
}

/** A rate over a shorter time says nothing. */
const LEAST_SECONDS = 0.2;

/** Bytes a second of each conn, both ways together, from one look to the next. */
class Rates {
  #seen = new Map();

  learn(conns) {
    const at = now() / 1000;
    const seen = new Map();
    for (const conn of conns) {
      const sum = conn.bytes_sent + conn.bytes_received;
      const last = this.#seen.get(conn.conn_id);
      // A conn that was not there yet has had its whole life for what it moved.
      const seconds = last ? at - last.at : secondsSince(conn.opened_at);
      const moved = sum - (last?.sum ?? 0);
      const rate = seconds > LEAST_SECONDS ? Math.max(0, moved) / seconds : last?.rate ?? null;
      seen.set(conn.conn_id, { at, sum, rate });
    }
    this.#seen = seen;
  }

  of(conn) {
    return this.#seen.get(conn.conn_id)?.rate ?? null;
  }
}

function askToClose(conn, done) {
  ask({
    title: "Close this conn?",
    text: [`${visible(conn.client_address)} to ${visible(conn.target)} through ${visible(conn.device_id)}.`,
      "Client and target both see a reset."],
    action: "Close conn", danger: true, done, success: "The conn was closed.",
    run: ({ reason, key }) => call("DELETE", path("conns", conn.conn_id), { reason, key }),
  });
}

function askToCloseMatching(list) {
  const given = list.filters(FILTERS);
  const fields = {
    device_id: field("Device", input(given.device_id)),
    target: field("Target", input(given.target)),
    user: field("User", input(given.user)),
    protocol: field("Protocol", select([["", "Any"], ...PROTOCOLS], given.protocol ?? "")),
    node_id: field("Node", input(given.node_id)),
  };
  const read = () => Object.fromEntries(FILTERS.map((each) => [each, fields[each].control.value.trim()])
    .filter(([, value]) => value !== ""));
  ask({
    title: "Close every conn that matches",
    text: "All of the filters must match. Empty ones are left out; at least one is needed.",
    fields,
    action: "Close all matching", danger: true,
    extra: {
      label: "Count first",
      run: async () => {
        const { items, isComplete } = await all("conns", read());
        return isComplete ? `${plural(items.length, "conn")} match now.`
          : `More than ${count(items.length)} conns match now.`;
      },
    },
    run: async ({ reason, key }) => (await call("POST", "conns/close", { body: read(), reason, key })).data,
    success: (result) => `${plural(result.closed, "conn")} closed.`,
    done: () => list.refresh(),
  });
}

function input(value) {
  const control = document.createElement("input");
  Object.assign(control, { type: "text", value: value ?? "", autocomplete: "off", spellcheck: false });
  return control;
}
