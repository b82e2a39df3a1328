// The admin API as the console uses it: one function, one kind of error.

import { learnClock } from "./clock.js";
import * as session from "./session.js";

/** Why a call gave no result, as the problem document says it, or what kept it from getting there. */
export class Problem extends Error {
  constructor({ status = 0, code, detail, errors = [], requestID = null, retryAfter = null }) {
    super(detail);
    Object.assign(this, { status, code, detail, errors, requestID, retryAfter });
  }

  /** The node's version of the API has no such operation. */
  get isNotOffered() {
    return (this.status === 404 && this.code === "not_found") || this.status === 405 || this.status === 501;
  }

  get isDatabaseAway() {
    return this.code === "database_unavailable";
  }
}

/** Most bytes of a problem's text that are shown when it is no document. */
const LONGEST_PLAIN_TEXT = 200;

/** `path("devices", id)`: each part is one segment, whatever it holds. */
export function path(...parts) {
  return parts.map((part) => {
    // A browser resolves these two even when they are escaped: the call would go somewhere else.
    if (part === "." || part === "..") {
      throw new Problem({
        code: "not_addressable", detail: `A browser can't address “${part}”. Use popctl for it.`,
      });
    }
    return encodeURIComponent(part);
  }).join("/");
}

/** Query parameters without those that are empty; arrays repeat. */
export function query(values) {
  const result = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") result.append(name, each);
    }
  }
  const text = result.toString();
  return text === "" ? "" : `?${text}`;
}

/** A key for one attempt at one action; usable without a secure context, unlike `randomUUID`. */
export function newKey() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Calls the API.
 * @returns `{ data, etag }`
 * @throws {Problem} for every other end, `AbortError` when `signal` says so.
 */
export async function call(method, target, { body, reason, ifMatch, key, signal, token } = {}) {
  const response = await send(method, target, { body, reason, ifMatch, key, signal, token });
  const text = await read(response);
  if (!response.ok) throw problem(response, text);
  const data = text === "" ? null : parse(text);
  if (data === undefined) {
    throw new Problem({
      status: response.status, code: "not_json", detail: "The answer is not JSON: is this a POP node?",
    });
  }
  return { data, etag: response.headers.get("ETag") };
}

export async function get(target, options = {}) {
  return (await call("GET", target, options)).data;
}

/** Opens a stream of events; the caller reads the body. */
export async function open(target, headers, signal) {
  const response = await send("GET", target, { signal, headers, accept: "text/event-stream" });
  if (!response.ok) throw problem(response, await read(response));
  return response;
}

/** Whether the answering node is ready, with its named checks; not being ready is an answer, too. */
export async function readiness(signal) {
  const response = await fetched("readyz?verbose", { headers: { Accept: "application/json" }, signal });
  const document = parse(await read(response));
  return { isReady: response.ok, checks: Array.isArray(document?.checks) ? document.checks : [] };
}

async function send(method, target, options) {
  const { body, reason, ifMatch, key, signal, headers: more = {}, accept = "application/json" } = options;
  const token = options.token ?? session.token();
  const headers = { Accept: accept, Authorization: `Bearer ${token}`, ...more };
  let address = target;
  let content;
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    content = JSON.stringify(reason ? { ...body, reason } : body);
  } else if (reason) {
    // Some proxies drop the content of a DELETE.
    address += `${target.includes("?") ? "&" : "?"}${new URLSearchParams({ reason })}`;
  }
  if (ifMatch) headers["If-Match"] = ifMatch;
  if (key) headers["Idempotency-Key"] = key;
  const response = await fetched(`v1/${address}`, { method, headers, body: content, signal });
  learnClock(response.headers.get("Date"));
  if (response.status === 401 && options.token === undefined) session.refused(token);
  return response;
}

async function fetched(address, options) {
  try {
    return await fetch(address, { ...options, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (error) {
    throw unreachable(error);
  }
}

async function read(response) {
  try {
    return await response.text();
  } catch (error) {
    throw unreachable(error);
  }
}

function unreachable(error) {
  if (error.name === "AbortError") return error;
  return new Problem({ code: "unreachable", detail: "The node does not answer." });
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function problem(response, text) {
  const document = parse(text);
  const isDocument = document !== null && typeof document === "object" && typeof document.code === "string";
  return new Problem({
    status: response.status,
    code: isDocument ? document.code : `http_${response.status}`,
    detail: isDocument && document.detail
      ? document.detail : text.slice(0, LONGEST_PLAIN_TEXT) || response.statusText || "No reason was given.",
    errors: isDocument && Array.isArray(document.errors) ? document.errors : [],
    requestID: response.headers.get("X-Request-Id"),
    retryAfter: response.headers.get("Retry-After"),
  });
}

/** The whole of a list, up to `most` items; `isComplete` tells whether that was all. */
export async function all(target, values, { most = 5000, signal } = {}) {
  const items = [];
  let cursor = null;
  do {
    const page = await get(target + query({ ...values, limit: 1000, cursor }), { signal });
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor && items.length < most);
  return { items, isComplete: !cursor };
}
