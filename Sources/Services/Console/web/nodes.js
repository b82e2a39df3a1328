// Nodes, and taking them out of service.

import { call, get, path } from "./api.js";
import { ago, since } from "./clock.js";
import { ask } from "./dialog.js";
import { h, name, put, visible } from "./dom.js";
import { drainSection, askToDrain } from "./drain.js";
import * as fleet from "./fleet.js";
import { bytes, count, percent, rate, upDown } from "./format.js";
import { List } from "./list.js";
import { stateCell, stateText } from "./overview.js";
import { Section } from "./page.js";
import { button, facts, meter, nodeLink, text } from "./parts.js";
import { link } from "./route.js";

export function nodesView(page) {
  page.title("Nodes");
  const list = new List({
    target: "nodes", query: page.route.query, isInAddress: true, seconds: 3,
    key: (node) => node.node_id,
    caption: "Nodes of the fleet",
    noun: "node",
    emptyText: "No nodes",
    rowClass: (node) => (fleet.isStale(node) ? "stale-row" : ""),
    columns: [
      { title: "Node", text: (node) => `${node.node_id} ${isAnswering(node)}`, cell: nodeCell, wide: true },
      { title: "State", text: stateText, cell: stateCell },
      { title: "Location", text: (node) => node.location, cell: (node) => text(node.location) },
      { title: "Devices", text: (node) => count(node.devices_online), numeric: true },
      { title: "Conns", text: (node) => count(node.conns_active), numeric: true },
      {
        title: "Up / down", text: (node) => upDown(rates(node)?.sent, rates(node)?.received, rate),
        numeric: true,
      },
      {
        title: "CPU", text: (node) => percent(node.cpu_utilization),
        cell: (node) => meter(node.cpu_utilization, percent(node.cpu_utilization)),
      },
      { title: "Memory", text: (node) => bytes(node.memory_used_bytes), numeric: true },
      { title: "Version", text: (node) => node.version, cell: (node) => text(node.version) },
      { title: "Up for", text: (node) => node.started_at, cell: (node) => since(node.started_at) },
      { title: "Last seen", text: (node) => node.last_seen_at, cell: (node) => ago(node.last_seen_at) },
      {
        title: "Actions", actions: true, text: (node) => node.state,
        cell: (node, current) => actions(node, current, () => list.refresh(), "small"),
      },
    ],
  });
  page.add(list.section);
}

function rates(node) {
  return fleet.isStale(node) ? null : fleet.current().rates.get(node.node_id);
}

function isAnswering(node) {
  return node.node_id === fleet.current().self;
}

function nodeCell(node) {
  return [nodeLink(node.node_id), isAnswering(node) ? h("span", { class: "muted" }, " answering") : null];
}

/** What can be done with a node as it is; its drain is watched on its own page. */
function actions(node, current, done, kind = "") {
  if (node.state === "down") return null;
  if (isDraining(node)) {
    return h("a", { class: `button ${kind}`, href: link("nodes", node.node_id) }, "Show drain");
  }
  const isOut = node.state === "cordoned";
  return h("span", { class: "button-row" },
    button(isOut ? "Uncordon…" : "Cordon…", () => askForEligibility(current(), isOut, done), { kind }),
    button("Drain…", () => askToDrain(current(), null, done), { kind }));
}

function isDraining(node) {
  return node.state === "draining" || node.state === "drained";
}

function askForEligibility(node, eligible, done) {
  ask({
    title: `${eligible ? "Uncordon" : "Cordon"} ${visible(node.node_id)}?`,
    text: eligible ? "It takes new devices and conns again."
      : "It takes no new device or conn until it is uncordoned. What it holds is not touched.",
    action: eligible ? "Uncordon" : "Cordon", done,
    success: `${visible(node.node_id)} is ${eligible ? "uncordoned" : "cordoned"}.`,
    run: ({ reason, key }) => call("PUT", path("nodes", node.node_id, "eligibility"), {
      body: { eligible }, reason, key,
    }),
  });
}

// MARK: One node

export function nodeView(page) {
  const id = page.route.parts[0];
  page.title(h("a", { href: link("nodes"), class: "crumb" }, "Nodes"), name(id));
  let node = null;
  let offered = null;
  const figures = h("div");
  const refresh = () => {
    section.refresh();
    drain.refresh();
  };
  const section = new Section({
    seconds: 3,
    load: async (signal) => {
      node = await get(path("nodes", id), { signal });
      if (signal.aborted) return;
      if (offered !== node.state) {
        offered = node.state;
        page.actions(isDraining(node) ? null : actions(node, () => node, refresh));
      }
      put(figures, nodeFacts(node));
      section.show(figures);
    },
  });
  const drain = drainSection(id, () => node, refresh);
  page.add(section, drain);
}

function nodeFacts(node) {
  const moved = rates(node);
  return facts([
    ["State", stateCell(node)],
    ["Last seen", ago(node.last_seen_at)],
    ["Location", text(node.location)],
    ["Devices online", h("a", {
      href: link("devices", { node_id: node.node_id, status: "online" }),
    }, count(node.devices_online))],
    ["Live conns", h("a", { href: link("conns", { node_id: node.node_id }) }, count(node.conns_active))],
    ["To targets", `${rate(moved?.sent)} · ${bytes(node.bytes_sent)} in all`],
    ["From targets", `${rate(moved?.received)} · ${bytes(node.bytes_received)} in all`],
    ["CPU", meter(node.cpu_utilization, percent(node.cpu_utilization))],
    ["Memory", bytes(node.memory_used_bytes)],
    ["Up for", since(node.started_at)],
    ["Version", text(node.version)],
    ["Advertised host", text(node.advertise_host)],
    ["Ports", `${node.wss_port} WSS, ${node.quic_port} QUIC`],
  ]);
}
