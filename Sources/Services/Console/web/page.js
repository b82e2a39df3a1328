// A page is a heading and sections; a section loads itself again and again and says plainly how fresh it is,
// why it could not load, and what the data it still shows is worth.

import { Problem } from "./api.js";
import { ago, now } from "./clock.js";
import { h, put } from "./dom.js";
import { button, empty, problemBox } from "./parts.js";
import { Poller } from "./poller.js";

export class Page {
  /** The current address's parts and query. */
  route;
  element = h("div", { class: "page" });
  #heading = h("h1", { tabindex: "-1" });
  #actions = h("div", { class: "actions" });
  #live;
  #sections = [];
  #leaving = [];
  /** Whether the operator wants what is shown to stand still. */
  isPaused = false;
  /** What else is to be refreshed with the sections. */
  onRefresh = null;

  constructor(route, { isLive = true } = {}) {
    this.route = route;
    const pause = button("Pause", () => {
      this.isPaused = !this.isPaused;
      pause.textContent = this.isPaused ? "Resume" : "Pause";
      pause.setAttribute("aria-pressed", String(this.isPaused));
      for (const section of this.#sections) section.pause(this.isPaused);
    }, { kind: "quiet", title: "Stop or go on refreshing this page" });
    pause.setAttribute("aria-pressed", "false");
    const refresh = button("Refresh", () => this.refresh(), { kind: "quiet" });
    this.#live = h("div", { class: "actions end" }, pause, refresh);
    this.element.append(
      h("header", { class: "page-head" }, this.#heading, isLive && this.#live, this.#actions));
  }

  /** What is shown comes by itself: when it is to stand still is the view's own business. */
  isFedByItself() {
    this.#live.remove();
    this.#actions.classList.add("end");
  }

  title(...content) {
    put(this.#heading, content);
    document.title = `${this.#heading.textContent} · POP Node`;
  }

  /** The buttons beside the heading. */
  actions(...content) {
    put(this.#actions, content);
  }

  add(...content) {
    for (const each of content) {
      if (each instanceof Section) {
        this.#sections.push(each);
        this.element.append(each.element);
        each.refresh();
      } else {
        this.element.append(each);
      }
    }
  }

  refresh() {
    this.onRefresh?.();
    return Promise.all(this.#sections.map((section) => section.refresh()));
  }

  onLeave(action) {
    this.#leaving.push(action);
  }

  leave() {
    for (const section of this.#sections) section.stop();
    for (const action of this.#leaving) action();
  }

  focus() {
    this.#heading.focus({ preventScroll: true });
  }
}

export class Section {
  element;
  /** Where the loaded things are shown. */
  body = h("div", { class: "section-body" });
  #fresh = h("p", { class: "fresh muted" });
  #problem = h("div", { class: "problem" });
  #loadedAt = null;
  #said = null;
  #poller;
  #load;

  /**
   * `load(signal)` brings the data and shows it in `body`.
   * Without a title, the page's heading is this section's too.
   */
  constructor({ title = null, load, seconds = 5, actions = null, quiet = false }) {
    this.#load = load;
    this.#poller = new Poller(seconds, (signal) => this.#run(signal));
    const head = title || actions
      ? h("div", { class: "section-head" }, title && h("h2", {}, title), actions, this.#fresh)
      : quiet ? null : h("div", { class: "section-head plain" }, this.#fresh);
    this.element = h("section", {}, head, this.#problem, this.body);
    this.body.append(h("p", { class: "muted loading" }, "Loading…"));
  }

  /** Puts the nodes into the body; what stands there already is left alone. */
  show(...nodes) {
    const present = this.body.childNodes;
    if (present.length === nodes.length && nodes.every((node, index) => present[index] === node)) return;
    put(this.body, nodes);
  }

  refresh() {
    this.element.setAttribute("aria-busy", "true");
    return this.#poller.refresh();
  }

  pause(isPaused) {
    this.#poller.pause(isPaused);
  }

  stop() {
    this.#poller.stop();
  }

  async #run(signal) {
    try {
      await this.#load(signal);
      if (signal.aborted) return;
      this.#loadedAt = new Date(now()).toISOString();
      this.#showProblem(null);
      put(this.#fresh, "Updated ", ago(this.#loadedAt));
      this.element.classList.remove("stale");
    } catch (error) {
      if (error.name === "AbortError" || signal.aborted) return;
      this.#fail(error);
    }
    this.element.removeAttribute("aria-busy");
  }

  #fail(error) {
    if (!(error instanceof Problem)) console.error(error);
    if (this.#loadedAt === null) put(this.body);
    if (error.isNotOffered) {
      this.#showProblem(null);
      put(this.body, empty("Not offered by this node",
        "The node that answers has no such operation; it may run an older version."));
      return;
    }
    this.#showProblem(error);
    put(this.#fresh, "Not current");
    this.element.classList.add("stale");
  }
  /** An alert is read out when it comes: the same one is not put there again at each attempt. */
  #showProblem(error) {
    const said = error && [error.code, error.message, error.status].join("\n");
    if (said === this.#said) return;
    this.#said = said;
    put(this.#problem, error && problemBox(error, { asOf: this.#loadedAt && ago(this.#loadedAt) }));
  }
}
