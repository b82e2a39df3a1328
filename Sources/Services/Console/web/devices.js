// Devices: the list, and all there is to know of one.

import { call, path } from "./api.js";
import { ago, since } from "./clock.js";
import { connList } from "./conns.js";
import { ask, showSecret } from "./dialog.js";
import { h, name, put, visible } from "./dom.js";
import { FilterBar } from "./filters.js";
import * as fleet from "./fleet.js";
import { bytes, milliseconds, percent, upDown } from "./format.js";
import { sessionList } from "./history.js";
import { List } from "./list.js";
import { loadSection } from "./load.js";
import { Section } from "./page.js";
import {
  button, connsOf, deviceLink, deviceState, deviceStateText, facts, field, meter, nodeLink, shortID, tags,
  text,
} from "./parts.js";
import { link } from "./route.js";

export function devicesView(page) {
  page.title("Devices");
  page.actions(button("Enroll device…", () => askForNewDevice(), { kind: "primary" }));
  const list = new List({
    target: "devices", query: page.route.query, isInAddress: true, seconds: 5,
    key: (device) => device.device_id,
    caption: "Devices",
    noun: "device",
    defaultSort: "device_id",
    emptyText: "No device has ever connected",
    emptyDetail: "Enroll one for a token, then start pop-device with it.",
    rowClass,
    columns: [
      {
        title: "Device", sort: "device_id", wide: true,
        text: (device) => device.device_id, cell: (device) => deviceLink(device.device_id),
      },
      { title: "State", text: deviceStateText, cell: deviceState },
      { title: "Node", text: (device) => device.node_id, cell: (device) => nodeLink(device.node_id) },
      { title: "Location", text: (device) => device.location, cell: (device) => text(device.location) },
      {
        title: "Tags", text: (device) => device.tags.join("\n"), wide: true,
        cell: (device) => tags(device.tags, (tag) => filters.add("tag", tag)),
      },
      { title: "Conns", sort: "active_conns", text: connsOf, numeric: true },
      { title: "RTT", text: (device) => milliseconds(device.rtt_ms), numeric: true },
      {
        title: "CPU", text: (device) => percent(device.cpu_utilization),
        cell: (device) => meter(device.cpu_utilization, percent(device.cpu_utilization)),
      },
      {
        title: "Up / down", text: (device) => upDown(device.bytes_sent, device.bytes_received), numeric: true,
      },
      {
        title: "Connected", sort: "connected_at",
        text: (device) => `${device.status} ${device.connected_at} ${device.last_seen_at}`, cell: connected,
      },
    ],
  });
  const filters = new FilterBar([
    { name: "q", label: "Id begins with", kind: "text", placeholder: "prefix" },
    {
      name: "status", label: "Status", kind: "choice",
      options: [["online", "Online"], ["offline", "Offline"]],
    },
    { name: "node_id", label: "Node", kind: "text", placeholder: "id or self" },
    { name: "location", label: "Location", kind: "text", placeholder: "exact" },
    { name: "tag", label: "Tags, all of", kind: "many", placeholder: "tag, then Enter" },
  ], list);
  page.add(filters.element, list.section);
}

/** For how long it has been connected, or when it was seen last. */
function connected(device) {
  return device.status === "online" ? [since(device.connected_at)] : ["seen ", ago(device.last_seen_at)];
}

function rowClass(device) {
  if (device.status !== "online") return "off-row";
  return fleet.isDown(device.node_id) ? "stale-row" : "";
}

/** Enrolling is how a device that never connected becomes known. */
function askForNewDevice() {
  const id = field("Device id", h("input", { type: "text", autocomplete: "off", spellcheck: "false" }),
    { hint: "1 to 128 of A-Z a-z 0-9 . _ : -" });
  ask({
    title: "Enroll a device",
    text: "It gets a token of its own. A token that it had before stops working.",
    fields: { device_id: id }, action: "Enroll",
    run: ({ reason, key }) => makeToken(id.control.value.trim(), reason, key),
    done: showToken,
  });
}

async function makeToken(id, reason, key, ifMatch = null) {
  return (await call("POST", path("devices", id, "token"), { body: {}, reason, key, ifMatch })).data;
}

function showToken({ device_id: id, token }) {
  showSecret({
    title: `The token of ${visible(id)}`,
    text: "Give it to the device: --token-file, or POP_AGENT_TOKEN.", secret: token,
  });
}

// MARK: One device

export function deviceView(page) {
  const id = page.route.parts[0];
  page.title(h("a", { href: link("devices"), class: "crumb" }, "Devices"), name(id));
  const figures = h("div");
  const state = { device: null, etag: null };
  const refresh = () => page.refresh();
  let offered = "";
  const section = new Section({
    seconds: 3,
    load: async (signal) => {
      const { data: device, etag } = await call("GET", path("devices", id), { signal });
      if (signal.aborted) return;
      Object.assign(state, { device, etag });
      if (offered !== `${device.enabled} ${device.status}`) {
        offered = `${device.enabled} ${device.status}`;
        page.actions(deviceActions(state, refresh));
      }
      put(figures, deviceFacts(device));
      figures.className = rowClass(device) === "stale-row" ? "stale" : "";
      section.show(figures);
    },
  });
  page.add(section, loadSection(id),
    connList({ fixed: { device_id: id }, title: "Live conns", limit: 50 }).section,
    sessionList({ deviceID: id, title: "Sessions", limit: 25 }).section);
}

function deviceFacts(device) {
  const memory = device.memory_total_bytes > 0 ? device.memory_used_bytes / device.memory_total_bytes : null;
  const isOnline = device.status === "online";
  // What was measured last says nothing of a device that is away.
  const measured = (value) => (isOnline ? value : h("span", { class: "muted" }, "was ", value));
  return facts([
    ["State", deviceState(device)],
    ["Last seen", ago(device.last_seen_at)],
    ["Connected for", since(isOnline ? device.connected_at : null)],
    ["Last heartbeat", ago(device.last_heartbeat_at)],
    ["Node", nodeLink(device.node_id)],
    ["Location", text(device.location)],
    ["Tags", device.tags.length > 0 ? tags(device.tags) : null],
    ["Live conns", connsOf(device)],
    ["Round trip", device.rtt_ms === null ? null : measured(milliseconds(device.rtt_ms))],
    ["CPU", device.cpu_utilization === null ? null
      : measured(meter(device.cpu_utilization, percent(device.cpu_utilization)))],
    ["Memory", memory === null ? null
      : measured(meter(memory, `${bytes(device.memory_used_bytes)} of ${bytes(device.memory_total_bytes)}`))],
    ["To targets", bytes(device.bytes_sent)],
    ["From targets", bytes(device.bytes_received)],
    ["Control address", text(device.remote_address)],
    ["Data address", text(device.quic_remote_address)],
    ["Agent", text(device.agent_version)],
    ["Session", shortID(device.session_id)],
    ["Session epoch", device.session_epoch > 0 ? String(device.session_epoch) : null],
    ["First seen", ago(device.first_seen_at)],
  ]);
}

function deviceActions(state, done) {
  const id = visible(state.device.device_id);
  const target = (...more) => path("devices", state.device.device_id, ...more);
  const { enabled, status } = state.device;
  // The version is that of the look that the operator acted upon: when the dialog opened.
  const asking = (make) => () => ask({ done, ...make(state.etag) });
  return [
    status === "online" && button("Disconnect…", asking((ifMatch) => ({
      title: `Disconnect ${id}?`,
      text: "Its session ends and its conns are reset. It may come back at once, with a new session.",
      action: "Disconnect", danger: true, success: `${id} was disconnected.`,
      run: ({ reason, key }) => call("POST", target("disconnect"), { body: {}, reason, key, ifMatch }),
    }))),
    button(enabled ? "Disable…" : "Enable…", asking((ifMatch) => ({
      title: `${enabled ? "Disable" : "Enable"} ${id}?`,
      text: enabled ? "It is disconnected, and kept out until it is enabled again." : "It may connect again.",
      action: enabled ? "Disable" : "Enable", danger: enabled,
      success: `${id} is ${enabled ? "disabled" : "enabled"}.`,
      run: ({ reason, key }) => call("PATCH", target(), {
        body: { enabled: !enabled }, reason, key, ifMatch,
      }),
    }))),
    button("New token…", asking((ifMatch) => ({
      title: `A new token for ${id}?`,
      text: "A token that it had before stops working for its next connection.",
      action: "Make token", success: null,
      run: ({ reason, key }) => makeToken(state.device.device_id, reason, key, ifMatch),
      done: (result) => {
        showToken(result);
        done();
      },
    }))),
    button("Revoke token…", asking((ifMatch) => ({
      title: `Revoke the token of ${id}?`,
      text: "It is disconnected, and can't come back without a new token.",
      action: "Revoke", danger: true, success: `The token of ${id} was revoked.`,
      run: ({ reason, key }) => call("DELETE", target("token"), { reason, key, ifMatch }),
    }))),
  ];
}
