// A list of the API as a section: filters that the server applies, its order, and pages by its cursors.

import { get, query } from "./api.js";
import { h, put, setText } from "./dom.js";
import { plural } from "./format.js";
import { Section } from "./page.js";
import { button, empty, select } from "./parts.js";
import { keptState, replaceQuery } from "./route.js";
import { Table } from "./table.js";

const PAGE_SIZES = [50, 100, 250, 1000];
const DEFAULT_PAGE_SIZE = 100;
/** So many empty pages in a row are passed over before the operator is asked whether to go on. */
const MOST_LOOKS = 10;

export class List {
  section;
  #options;
  #table;
  #pager;
  /** Filters, `sort`, `order` and `limit` as the server knows them. */
  #values;
  /** The cursors of the pages up to this one; the first page has null. */
  #cursors = [null];
  #next = null;
  #announce = false;
  #status = h("p", { class: "list-status", role: "status" });
  #empty = h("div");

  /**
   * - target: the path below `/v1/`, or what makes it; fixed: parameters that are always sent.
   * - filters: a `FilterBar`'s description, or null; columns, key, rowClass: see `Table`.
   * - isInAddress: whether filters and page are kept in the address.
   * - onRows(rows): called with each page before it is shown.
   */
  constructor(options) {
    this.#options = options;
    const { isInAddress = false, defaults = {} } = options;
    this.#values = new URLSearchParams(defaults);
    if (isInAddress) {
      for (const name of options.query.keys()) this.#values.delete(name);
      for (const [name, value] of options.query) this.#values.append(name, value);
      const kept = keptState()?.cursors;
      if (Array.isArray(kept) && kept.length > 0) this.#cursors = kept;
    }
    this.#table = new Table({
      columns: options.columns, key: options.key, caption: options.caption, rowClass: options.rowClass,
      onSort: (name) => this.#sort(name),
    });
    this.#pager = new Pager({
      caption: options.caption, sizes: PAGE_SIZES,
      size: Number(this.#values.get("limit")) || options.limit || DEFAULT_PAGE_SIZE,
      onFirst: () => this.#go([null]),
      onBack: () => this.#go(this.#cursors.slice(0, -1)),
      onNext: () => this.#next && this.#go([...this.#cursors, this.#next]),
      onSize: (size) => this.set({ limit: String(size) }),
    });
    this.section = new Section({
      title: options.title, seconds: options.seconds ?? 5, actions: options.actions,
      load: (signal) => this.#load(signal),
    });
    this.#showOrder();
  }

  /** The values of one filter. */
  values(name) {
    return this.#values.getAll(name);
  }

  /** The filters in force, by the server's names. */
  filters(names) {
    return Object.fromEntries(names.filter((name) => this.#values.has(name)).map((name) => {
      const values = this.#values.getAll(name);
      return [name, values.length === 1 ? values[0] : values];
    }));
  }

  /** Changes filters and goes back to the first page; null, "" and [] take one away. */
  set(changes) {
    for (const [name, value] of Object.entries(changes)) {
      this.#values.delete(name);
      for (const each of [value].flat()) {
        if (each !== null && each !== "") this.#values.append(name, each);
      }
    }
    this.#showOrder();
    this.#go([null]);
  }

  row(key) {
    return this.#table.row(key);
  }

  refresh() {
    return this.section.refresh();
  }

  #sort(name) {
    const isSame = (this.#values.get("sort") ?? this.#options.defaultSort) === name;
    this.set({ sort: name, order: isSame && this.#values.get("order") !== "desc" ? "desc" : "asc" });
  }

  #showOrder() {
    const { defaultSort } = this.#options;
    this.#table.showOrder(this.#values.get("sort") ?? defaultSort, this.#values.get("order") === "desc");
  }

  #go(cursors) {
    this.#cursors = cursors;
    if (this.#options.isInAddress) replaceQuery(this.#values, { cursors });
    this.#announce = true;
    return this.section.refresh();
  }

  async #load(signal) {
    const { target, fixed = {}, onRows, limit = DEFAULT_PAGE_SIZE } = this.#options;
    const values = Object.fromEntries([...new Set(this.#values.keys())].map((name) => [
      name, this.#values.getAll(name),
    ]));
    const address = typeof target === "function" ? target() : target;
    let page = { items: [], next_cursor: this.#cursors.at(-1) };
    // A page may be empty while the list goes on: filters that hardly ever match are looked for in stretches.
    let looks = 0;
    do {
      page = await get(address + query({ limit, ...values, ...fixed, cursor: page.next_cursor }), { signal });
      looks += 1;
    } while (page.items.length === 0 && page.next_cursor && looks < MOST_LOOKS);
    if (signal.aborted) return;
    onRows?.(page.items);
    this.#next = page.next_cursor;
    this.#table.update(page.items);
    this.#show(page.items.length);
  }

  #show(size) {
    const { noun = "row" } = this.#options;
    const number = this.#cursors.length;
    this.#pager.show({ page: number, hasNext: Boolean(this.#next), size });
    if (this.#announce) {
      // Only what somebody asked for is read out, not every refresh.
      setText(this.#status, `${plural(size, noun)} on page ${number}`);
      this.#announce = false;
    }
    if (size > 0) {
      this.section.show(this.#status, this.#table.element, this.#pager.element);
      return;
    }
    put(this.#empty, this.#emptiness(number));
    const hasPages = number > 1 || this.#next;
    this.section.show(this.#status, this.#empty, ...(hasPages ? [this.#pager.element] : []));
  }

  #emptiness(number) {
    const { emptyText = "Nothing here", emptyDetail = null } = this.#options;
    const isFiltered = [...this.#values.keys()].some((name) => !["sort", "order", "limit"].includes(name));
    if (this.#next) return empty("Nothing found so far", "The search goes on with Next.");
    if (number > 1) return empty("Nothing more", "The list ends here, or has become shorter.");
    return empty(isFiltered ? "Nothing matches these filters" : emptyText, isFiltered ? null : emptyDetail);
  }
}

class Pager {
  element;
  #first;
  #back;
  #next;
  #text = h("span", { class: "muted" });

  constructor({ caption, sizes, size, onFirst, onBack, onNext, onSize }) {
    this.#first = button("First", onFirst, { kind: "quiet" });
    this.#back = button("Previous", onBack, { kind: "quiet" });
    this.#next = button("Next", onNext, { kind: "quiet" });
    const chooser = select(sizes.map((each) => [String(each), String(each)]), String(size));
    chooser.setAttribute("aria-label", "Rows on a page");
    chooser.addEventListener("change", () => onSize(chooser.value));
    this.element = h("nav", { class: "pager", "aria-label": `Pages of: ${caption}` },
      this.#first, this.#back, this.#text, this.#next,
      h("label", { class: "pager-size" }, h("span", { class: "muted" }, "Rows"), chooser));
  }

  show({ page, hasNext, size }) {
    // A button that has the focus keeps it when it can't be used any more.
    this.#first.setAttribute("aria-disabled", String(page === 1));
    this.#back.setAttribute("aria-disabled", String(page === 1));
    this.#next.setAttribute("aria-disabled", String(!hasNext));
    // One short page needs no turning.
    this.element.classList.toggle("single", page === 1 && !hasNext && size <= PAGE_SIZES[0]);
    setText(this.#text, `Page ${page} · ${plural(size, "row")}`);
  }
}
