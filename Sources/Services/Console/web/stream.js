// Server-sent events over fetch, since an EventSource can't carry an Authorization field.

import { open, Problem, query } from "./api.js";

const FIRST_WAIT_MILLISECONDS = 500;
const LONGEST_WAIT_MILLISECONDS = 15000;
/** More than any event of the node takes; a stream that goes on without a line's end is none of ours. */
const LONGEST_LINE = 1 << 20;

/**
 * Turns chunks of text into events (WHATWG HTML, section 9.2.6).
 * An event is `{ id, type, data }`; `id` is that of the last event that had one.
 */
export class EventParser {
  /** What a reconnection goes on from. */
  lastID;
  /** The wait that the server asks for, in milliseconds. */
  retry = null;
  #rest = "";
  #isStart = true;
  #type = "";
  #data = [];
  #id;

  constructor(lastID = "") {
    this.lastID = lastID;
    this.#id = lastID;
  }

  /** @returns the events that the chunk completes. */
  feed(chunk) {
    let text = this.#rest + chunk;
    if (this.#isStart && text !== "") {
      this.#isStart = false;
      if (text.startsWith("\ufeff")) text = text.slice(1);
    }
    const events = [];
    let start = 0;
    for (;;) {
      const end = lineEnd(text, start);
      if (end === null) break;
      const event = this.#line(text.slice(start, end.at));
      if (event) events.push(event);
      start = end.next;
    }
    this.#rest = text.slice(start);
    if (this.#rest.length > LONGEST_LINE) throw new Error("a line of the event stream is too long");
    return events;
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    switch (field) {
      case "event": this.#type = value; break;
      case "data": this.#data.push(value); break;
      case "id": if (!value.includes("\0")) this.#id = value; break;
      case "retry": if (/^\d+$/.test(value)) this.retry = Number(value); break;
      default: break;
    }
    return null;
  }

  #dispatch() {
    this.lastID = this.#id;
    const event = { id: this.#id, type: this.#type || "message", data: this.#data.join("\n") };
    const isEmpty = this.#data.length === 0;
    this.#type = "";
    this.#data = [];
    return isEmpty ? null : event;
  }
}

/** Where the next line ends; a CR at the end of the text may be half of a CRLF, so it has to wait. */
function lineEnd(text, start) {
  for (let index = start; index < text.length; index += 1) {
    if (text[index] === "\n") return { at: index, next: index + 1 };
    if (text[index] === "\r") {
      if (index + 1 === text.length) return null;
      return { at: index, next: index + (text[index + 1] === "\n" ? 2 : 1) };
    }
  }
  return null;
}

/** The node's events for as long as it is not closed: reconnects, and goes on where it was. */
export class EventStream {
  #types;
  #onEvent;
  #onState;
  #lastID = "";
  #run = null;

  /** onState(state, problem): "connecting", "live", "waiting" (to try again), "refused" (it won't). */
  constructor({ types, onEvent, onState }) {
    this.#types = types;
    this.#onEvent = onEvent;
    this.#onState = onState;
  }

  start() {
    this.close();
    this.#run = new AbortController();
    this.#loop(this.#run.signal);
  }

  close() {
    this.#run?.abort();
    this.#run = null;
  }

  async #loop(signal) {
    let wait = FIRST_WAIT_MILLISECONDS;
    while (!signal.aborted) {
      this.#onState("connecting", null);
      let problem = null;
      try {
        wait = (await this.#read(signal)) ?? wait;
        problem = new Problem({ code: "ended", detail: "The node ended the stream." });
      } catch (error) {
        if (signal.aborted) return;
        problem = error instanceof Problem ? error : new Problem({ code: "broken", detail: error.message });
      }
      if (signal.aborted) return;
      if (problem.status >= 400 && problem.status < 500 && problem.status !== 429) {
        this.#onState("refused", problem);
        return;
      }
      this.#onState("waiting", problem);
      await pause(Math.max(wait, (Number(problem.retryAfter) || 0) * 1000), signal);
      wait = Math.min(wait * 2, LONGEST_WAIT_MILLISECONDS);
    }
  }

  /** @returns the wait before the next attempt, when the stream had begun. */
  async #read(signal) {
    const response = await open(
      `events${query({ types: this.#types.join(",") })}`,
      this.#lastID === "" ? {} : { "Last-Event-ID": this.#lastID }, signal);
    this.#onState("live", null);
    const parser = new EventParser(this.#lastID);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      let piece;
      try {
        piece = await reader.read();
      } catch (error) {
        if (signal.aborted) throw error;
        return parser.retry ?? FIRST_WAIT_MILLISECONDS;
      }
      if (piece.done || signal.aborted) return parser.retry ?? FIRST_WAIT_MILLISECONDS;
      for (const event of parser.feed(piece.value)) this.#onEvent(event);
      this.#lastID = parser.lastID;
    }
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
