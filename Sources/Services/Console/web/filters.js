// The filters above a list. Each is sent to the server by its name; nothing is filtered in the browser.

import { h, newID, put, visible } from "./dom.js";
import { button, select } from "./parts.js";

const TYPING_MILLISECONDS = 300;

/**
 * A filter: `{ name, label, kind: "text" | "choice" | "many" | "time", options, placeholder }`.
 * `list` has `values(name)` and `set(changes)`.
 */
export class FilterBar {
  element = h("form", {
    class: "filters", role: "search", on: { submit: (event) => event.preventDefault() },
  });
  #list;
  #resets = [];
  #adders = new Map();

  constructor(filters, list) {
    this.#list = list;
    for (const filter of filters) this.element.append(this.#control(filter));
    this.element.append(h("div", { class: "filter-end" },
      button("Clear", () => this.clear(), { kind: "quiet" })));
  }

  clear() {
    const changes = {};
    for (const reset of this.#resets) Object.assign(changes, reset());
    this.#list.set(changes);
  }

  /** Adds a value to a filter that takes many. */
  add(name, value) {
    this.#adders.get(name)?.(value);
  }

  #control(filter) {
    const id = newID("filter");
    const [control, more] = this.#input(filter);
    control.id = id;
    return h("div", { class: `filter ${filter.kind}` }, h("label", { for: id }, filter.label), control, more);
  }

  #input(filter) {
    switch (filter.kind) {
      case "choice": return [this.#choice(filter), null];
      case "many": return this.#many(filter);
      case "time": return [this.#time(filter), null];
      default: return [this.#text(filter), null];
    }
  }

  #text({ name, placeholder = "", type = "search" }) {
    const input = textInput(placeholder, type);
    input.value = this.#list.values(name)[0] ?? "";
    let timer = null;
    const send = () => {
      clearTimeout(timer);
      if ((this.#list.values(name)[0] ?? "") !== input.value) this.#list.set({ [name]: input.value });
    };
    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(send, TYPING_MILLISECONDS);
    });
    input.addEventListener("change", send);
    this.#resets.push(() => {
      clearTimeout(timer);
      input.value = "";
      return { [name]: "" };
    });
    return input;
  }

  #choice({ name, options }) {
    const control = select([["", "Any"], ...options], this.#list.values(name)[0] ?? "");
    control.addEventListener("change", () => this.#list.set({ [name]: control.value }));
    this.#resets.push(() => {
      control.value = "";
      return { [name]: "" };
    });
    return control;
  }

  /** Chosen by the operator's clock and sent as what it is everywhere. */
  #time({ name }) {
    const input = h("input", { type: "datetime-local" });
    const at = new Date(this.#list.values(name)[0] ?? "");
    if (!Number.isNaN(at.getTime())) {
      const shift = at.getTimezoneOffset() * 60_000;
      input.value = new Date(at.getTime() - shift).toISOString().slice(0, 16);
    }
    input.addEventListener("change", () => this.#list.set({
      [name]: input.value === "" ? "" : new Date(input.value).toISOString(),
    }));
    this.#resets.push(() => {
      input.value = "";
      return { [name]: "" };
    });
    return input;
  }

  #many({ name, placeholder = "" }) {
    const input = textInput(placeholder, "text");
    const chips = h("span", { class: "tags" });
    const show = () => put(chips, this.#list.values(name).map((value) => h("button", {
      type: "button", class: "tag chosen", "aria-label": `Remove ${visible(value)}`, on: {
        click: () => {
          this.#list.set({ [name]: this.#list.values(name).filter((each) => each !== value) });
          show();
          input.focus();
        },
      },
    }, h("bdi", {}, visible(value)), " ×")));
    const add = (value) => {
      if (value !== "" && !this.#list.values(name).includes(value)) {
        this.#list.set({ [name]: [...this.#list.values(name), value] });
      }
      show();
    };
    this.#adders.set(name, add);
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      add(input.value.trim());
      input.value = "";
    });
    input.addEventListener("change", () => {
      add(input.value.trim());
      input.value = "";
    });
    this.#resets.push(() => {
      input.value = "";
      queueMicrotask(show);
      return { [name]: [] };
    });
    show();
    return [input, chips];
  }
}

function textInput(placeholder, type) {
  return h("input", { type, placeholder, autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
}
