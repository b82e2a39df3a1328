// What every view needs to know of the nodes: asked once for all of them, and kept for the small charts.

import { all, get, Problem, readiness } from "./api.js";
import { now, secondsSince } from "./clock.js";
import { Poller } from "./poller.js";

const POLL_SECONDS = 3;
/** Ten minutes of samples. */
const MOST_SAMPLES = 200;
/** A node renews its lease every 2 s and loses it after 10 s: without news for longer, it may be dead. */
const LEASE_SECONDS = 10;
/** The figures of other nodes come from the database, where they change every 10 s. */
const HELD_RATE_SECONDS = 25;

const listeners = new Set();
let poller = null;
let state = fresh();

function fresh() {
  return {
    nodes: [], self: null, statistics: null, checks: null, isReady: null,
    nodesProblem: null, nodeProblem: null, rates: new Map(), samples: [], loadedAt: null,
  };
}

/** What is known now. Faults stand beside the last good values. */
export function current() {
  return state;
}

export function isDown(nodeID) {
  if (!nodeID) return false;
  const node = state.nodes.find((each) => each.node_id === nodeID);
  return node !== undefined && isStale(node);
}

/** A node that is down, or has not renewed its lease. */
export function isStale(node) {
  return node.state === "down" || (secondsSince(node.last_seen_at) ?? 0) > LEASE_SECONDS;
}

export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function start() {
  stop();
  state = fresh();
  poller = new Poller(POLL_SECONDS, load);
  poller.refresh();
}

export function stop() {
  poller?.stop();
  poller = null;
}

export function refresh() {
  return poller?.refresh();
}

async function load(signal) {
  const [nodes, statistics, ready] = await Promise.all([
    kept(all("nodes", {}, { signal })), kept(get("stats", { signal })), kept(readiness(signal)),
  ]);
  if (signal.aborted) return;
  state.nodeProblem = statistics.problem;
  state.nodesProblem = nodes.problem;
  if (statistics.value) {
    state.statistics = statistics.value;
    state.self = statistics.value.node_id ?? null;
  }
  if (ready.value) Object.assign(state, ready.value);
  if (nodes.value) {
    state.nodes = nodes.value.items;
    state.loadedAt = new Date(now()).toISOString();
    measure();
  }
  for (const listener of listeners) listener(state);
}

async function kept(promise) {
  try {
    return { value: await promise, problem: null };
  } catch (error) {
    if (!(error instanceof Problem) && error.name !== "AbortError") console.error(error);
    return { value: null, problem: error };
  }
}

/** The bytes a second of every node, from two looks at its counters. */
function measure() {
  const at = now() / 1000;
  const rates = new Map();
  const sum = { at, sent: 0, received: 0, devices: 0, conns: 0 };
  for (const node of state.nodes) {
    const entry = rateOf(node, at);
    rates.set(node.node_id, entry);
    if (isStale(node)) continue;
    sum.sent += entry.sent ?? 0;
    sum.received += entry.received ?? 0;
    sum.devices += node.devices_online;
    sum.conns += node.conns_active;
  }
  const isFirst = state.samples.length === 0;
  state.rates = rates;
  // The first look has counters to start from, and no rate yet.
  state.samples.push(isFirst ? { ...sum, sent: null, received: null } : sum);
  if (state.samples.length > MOST_SAMPLES) state.samples.shift();
}

function rateOf(node, at) {
  const last = state.rates.get(node.node_id);
  const look = {
    at, startedAt: node.started_at, bytesSent: node.bytes_sent, bytesReceived: node.bytes_received,
    sent: null, received: null,
  };
  if (!last || look.startedAt !== last.startedAt) return look;
  const isSame = last.bytesSent === look.bytesSent && last.bytesReceived === look.bytesReceived;
  if (isSame && node.node_id !== state.self && at - last.at < HELD_RATE_SECONDS) return last;
  const seconds = Math.max(0.5, at - last.at);
  return {
    ...look,
    sent: Math.max(0, look.bytesSent - last.bytesSent) / seconds,
    received: Math.max(0, look.bytesReceived - last.bytesReceived) / seconds,
  };
}
