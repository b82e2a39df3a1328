// What was: sessions, drains and the audit trail.

import { path } from "./api.js";
import { ago, since } from "./clock.js";
import { h, name, visible } from "./dom.js";
import { drainState } from "./drain.js";
import { FilterBar } from "./filters.js";
import { count, duration, upDown } from "./format.js";
import { List } from "./list.js";
import { deviceLink, nodeLink, none, pill, shortID, text } from "./parts.js";

// MARK: Sessions

export function sessionsView(page) {
  page.title("Sessions");
  const list = sessionList({ query: page.route.query, isInAddress: true });
  page.add(new FilterBar([
    { name: "device_id", label: "Device", kind: "text", placeholder: "exact id" },
    { name: "node_id", label: "Node", kind: "text", placeholder: "id or self" },
    { name: "open", label: "Open", kind: "choice", options: [["true", "Open"], ["false", "Ended"]] },
    { name: "from", label: "Started from", kind: "time" },
    { name: "to", label: "Started before", kind: "time" },
  ], list).element, list.section);
}

export function sessionList({ deviceID = null, query, isInAddress, title, limit }) {
  return new List({
    target: deviceID === null ? "sessions" : () => path("devices", deviceID, "sessions"),
    query, isInAddress, title, limit, seconds: 10,
    key: (session) => session.session_id,
    caption: "Sessions, newest first",
    noun: "session",
    emptyText: "No sessions",
    rowClass: (session) => (session.ended_at ? "off-row" : ""),
    columns: [
      { title: "Session", text: (each) => each.session_id, cell: (each) => shortID(each.session_id) },
      ...(deviceID === null ? [{
        title: "Device", text: (each) => each.device_id, cell: (each) => deviceLink(each.device_id),
        wide: true,
      }] : []),
      { title: "Node", text: (each) => each.node_id, cell: (each) => nodeLink(each.node_id) },
      { title: "Started", text: (each) => each.started_at, cell: (each) => ago(each.started_at) },
      { title: "Lasted", text: (each) => `${each.started_at} ${each.ended_at}`, cell: lasted },
      { title: "End", text: (each) => `${each.ended_at} ${each.end_reason}`, cell: sessionEnd },
      { title: "Address", text: (each) => each.remote_address, cell: (each) => text(each.remote_address) },
      { title: "Location", text: (each) => each.location, cell: (each) => text(each.location) },
      { title: "Agent", text: (each) => each.agent_version, cell: (each) => text(each.agent_version) },
      { title: "Conns", text: (each) => count(each.conns_total), numeric: true },
      { title: "Up / down", text: (each) => upDown(each.bytes_sent, each.bytes_received), numeric: true },
      { title: "Resumes", text: (each) => count(each.resumes), numeric: true },
      { title: "Moves", text: (each) => count(each.migrations), numeric: true },
    ],
  });
}

function lasted(session) {
  if (!session.ended_at) return since(session.started_at);
  return h("span", {}, duration((Date.parse(session.ended_at) - Date.parse(session.started_at)) / 1000));
}

const CALM_ENDS = new Set(["goodbye", "drained", "replaced", "node_stopped"]);

function sessionEnd(session) {
  if (!session.ended_at) return pill("ok", "open");
  const reason = session.end_reason ?? "ended";
  return pill(CALM_ENDS.has(reason) ? "off" : "warn", visible(reason).replaceAll("_", " "));
}

// MARK: Drains

export function drainsView(page) {
  page.title("Drains");
  const list = new List({
    target: "drains", query: page.route.query, isInAddress: true, seconds: 5,
    key: (drain) => drain.drain_id,
    caption: "Drains, newest first",
    noun: "drain",
    emptyText: "No node was ever drained",
    columns: [
      { title: "Drain", text: (each) => each.drain_id, cell: (each) => shortID(String(each.drain_id)) },
      { title: "Node", text: (each) => each.node_id, cell: (each) => nodeLink(each.node_id) },
      { title: "State", text: (each) => each.state, cell: (each) => drainState(each.state) },
      { title: "Started", text: (each) => each.started_at, cell: (each) => ago(each.started_at) },
      { title: "Deadline", text: (each) => each.deadline_at, cell: (each) => ago(each.deadline_at) },
      { title: "Ended", text: (each) => each.ended_at, cell: (each) => ago(each.ended_at) },
      {
        title: "Moved", text: (each) => `${count(each.devices_moved)} / ${count(each.devices_total)}`,
        numeric: true,
      },
      { title: "Conns cut", text: (each) => count(each.conns_cut), numeric: true },
      { title: "By", text: (each) => each.actor, cell: (each) => text(each.actor) },
      { title: "Reason", text: (each) => each.reason, cell: (each) => text(each.reason), wide: true },
    ],
  });
  page.add(new FilterBar([
    { name: "node_id", label: "Node", kind: "text", placeholder: "id or self" },
  ], list).element, list.section);
}

// MARK: Audit

export function auditView(page) {
  page.title("Audit");
  const list = new List({
    target: "audit", query: page.route.query, isInAddress: true, seconds: 10,
    key: (entry) => entry.audit_id,
    caption: "The audit trail, newest first",
    noun: "entry",
    emptyText: "Nothing was changed yet",
    columns: [
      { title: "When", text: (each) => each.at, cell: (each) => ago(each.at) },
      { title: "Who", text: (each) => each.actor, cell: (each) => text(each.actor) },
      { title: "What", text: (each) => `${each.method} ${each.path}`, cell: auditCall, wide: true },
      { title: "Answer", text: (each) => each.status, cell: auditStatus },
      { title: "Reason", text: (each) => each.reason, cell: (each) => text(each.reason), wide: true },
      { title: "From", text: (each) => each.remote_address, cell: (each) => text(each.remote_address) },
      { title: "Node", text: (each) => each.node_id, cell: (each) => nodeLink(each.node_id) },
      { title: "Request", text: (each) => each.request_id, cell: (each) => shortID(each.request_id) },
    ],
  });
  page.add(new FilterBar([
    { name: "actor", label: "Who", kind: "text", placeholder: "exact name" },
    { name: "path", label: "Path begins with", kind: "text", placeholder: "/v1/devices/" },
    {
      name: "method", label: "Method", kind: "choice",
      options: ["POST", "PUT", "PATCH", "DELETE"].map((each) => [each, each]),
    },
    { name: "status", label: "Answer", kind: "text", placeholder: "e.g. 403" },
    { name: "node_id", label: "Node", kind: "text", placeholder: "id or self" },
    { name: "from", label: "From", kind: "time" },
    { name: "to", label: "Before", kind: "time" },
  ], list).element, list.section);
}

function auditCall(entry) {
  return h("span", {}, h("code", {}, visible(entry.method)), " ", name(entry.path));
}

function auditStatus(entry) {
  if (typeof entry.status !== "number") return none();
  return pill(entry.status < 400 ? "ok" : entry.status < 500 ? "warn" : "bad", String(entry.status));
}
