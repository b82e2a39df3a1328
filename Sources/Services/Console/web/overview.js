// The fleet at a glance: headline figures over all nodes, and how they moved while the console looked.

import { ago, now } from "./clock.js";
import { h, name, put, setText, visible } from "./dom.js";
import * as fleet from "./fleet.js";
import { LineChart, sparkline } from "./chart.js";
import { bitRate, bytes, count, plural, rate } from "./format.js";
import { empty, nodeLink, nodeState, pill, problemBox } from "./parts.js";
import { link } from "./route.js";
import { Table } from "./table.js";

const LEAST_SHOWN_SECONDS = 120;
const MOST_SHOWN_SECONDS = 600;

export function overviewView(page) {
  page.title("Overview");
  const tiles = {
    devices: new Tile("Devices online", link("devices", { status: "online" }), "devices"),
    conns: new Tile("Live conns", link("conns"), "conns"),
    sent: new Tile("To targets", null, "sent"),
    received: new Tile("From targets", null, "received"),
    nodes: new Tile("Nodes", link("nodes"), ""),
  };
  const chart = new LineChart();
  const nodes = nodeTable();
  const checks = h("ul", { class: "checks" });
  const figures = h("dl", { class: "facts dense" });
  const problems = h("div");
  const nodesBox = h("div");
  page.add(problems,
    h("div", { class: "tiles" }, Object.values(tiles).map((tile) => tile.element)),
    block(["Throughput of the fleet",
      h("span", { class: "fresh muted" }, "Since the console was opened, ten minutes at most")], chart.element),
    block("Nodes", nodesBox),
    h("div", { class: "columns" },
      block("Checks of the answering node", checks), block("Counters of the answering node", figures)));
  const update = (state) => {
    if (page.isPaused) return;
    showTiles(tiles, state);
    showChart(chart, state.samples);
    put(problems, state.nodesProblem && !state.nodesProblem.isDatabaseAway
      ? problemBox(state.nodesProblem, { asOf: state.loadedAt && ago(state.loadedAt) }) : null);
    nodes.update(state.nodes);
    const shown = state.nodes.length > 0 ? nodes.element : state.loadedAt
      ? empty("No nodes") : h("p", { class: "muted" }, state.nodesProblem ? "No data" : "Loading…");
    if (nodesBox.firstChild !== shown) put(nodesBox, shown);
    showChecks(checks, state.checks);
    showFigures(figures, state.statistics);
  };
  page.onLeave(fleet.onChange(update));
  page.onRefresh = () => fleet.refresh();
  update(fleet.current());
}

function block(title, content) {
  const [heading, ...more] = [title].flat();
  return h("section", {}, h("div", { class: "section-head" }, h("h2", {}, heading), more), content);
}

class Tile {
  element;
  #value = h("p", { class: "tile-value" }, "–");
  #detail = h("p", { class: "tile-detail muted" });
  #spark = h("div", { class: "tile-spark" });
  #style;

  constructor(title, href, style) {
    this.#style = style;
    const content = [h("p", { class: "tile-title" }, title), this.#value, this.#detail, this.#spark];
    this.element = href ? h("a", { class: "tile", href }, content) : h("div", { class: "tile" }, content);
  }

  update(value, detail, values = []) {
    setText(this.#value, value);
    setText(this.#detail, detail);
    if (values.length > 1) put(this.#spark, sparkline(values, this.#style));
  }
}

function showTiles(tiles, { nodes, samples, loadedAt }) {
  if (loadedAt === null) return;
  const last = samples.at(-1);
  const stale = nodes.filter(fleet.isStale).length;
  const active = nodes.filter((node) => node.state === "active" && !fleet.isStale(node)).length;
  const counted = stale > 0 ? `without ${plural(stale, "node")} that is down` : "on all nodes";
  tiles.devices.update(count(last.devices), counted, samples.map((each) => each.devices));
  tiles.conns.update(count(last.conns), counted, samples.map((each) => each.conns));
  tiles.sent.update(rate(last.sent), "up through devices", samples.map((each) => each.sent));
  tiles.received.update(rate(last.received), "down through devices", samples.map((each) => each.received));
  tiles.nodes.update(`${active} / ${nodes.length}`, stale > 0 ? `active; ${stale} down` : "active");
}

function showChart(chart, samples) {
  const to = now() / 1000;
  const from = Math.max(to - MOST_SHOWN_SECONDS, Math.min(samples[0]?.at ?? to, to - LEAST_SHOWN_SECONDS));
  const points = (way) => samples.map((each) => [each.at, each[way] === null ? null : each[way] * 8]);
  chart.update({
    series: [
      { title: "To targets", style: "sent", points: points("sent") },
      { title: "From targets", style: "received", points: points("received") },
    ],
    range: [from, to], format: bitRate,
  });
}

function nodeTable() {
  return new Table({
    key: (node) => node.node_id,
    caption: "Nodes of the fleet",
    rowClass: (node) => (fleet.isStale(node) ? "stale-row" : ""),
    columns: [
      { title: "Node", text: (node) => node.node_id, cell: (node) => nodeLink(node.node_id), wide: true },
      { title: "State", text: stateText, cell: stateCell },
      { title: "Location", text: (node) => node.location, cell: (node) => name(node.location) },
      { title: "Devices", text: (node) => count(node.devices_online), numeric: true },
      { title: "Conns", text: (node) => count(node.conns_active), numeric: true },
      { title: "Last seen", text: (node) => node.last_seen_at, cell: (node) => ago(node.last_seen_at) },
    ],
  });
}

export function stateText(node) {
  return `${node.state} ${fleet.isStale(node)}`;
}

/** The state that a node is in; without news of it, that is what is said. */
export function stateCell(node) {
  const isSilent = fleet.isStale(node) && node.state !== "down";
  return h("span", { class: "pills" }, nodeState(node.state),
    isSilent && pill("bad", "silent", "It has not renewed its lease"));
}

function showChecks(list, checks) {
  if (checks === null) return;
  const said = JSON.stringify(checks);
  if (list.dataset.said === said) return;
  list.dataset.said = said;
  put(list, checks.map((check) => h("li", {},
    pill(check.ok ? "ok" : check.required ? "bad" : "warn", check.ok ? "passes" : "fails"),
    h("span", {}, name(check.name)), h("span", { class: "muted" }, visible(check.detail ?? "")))));
}

function showFigures(list, statistics) {
  if (statistics === null) return;
  const entries = Object.entries(statistics).filter(([, value]) => typeof value === "number");
  const said = JSON.stringify(entries);
  if (list.dataset.said === said) return;
  list.dataset.said = said;
  put(list, entries.map(([term, value]) => h("div", {}, h("dt", {}, visible(term).replaceAll("_", " ")),
    h("dd", {}, term.startsWith("bytes_") ? bytes(value) : count(value)))));
}
