// A table whose rows stay what they are: a refresh changes only the cells that differ, so that focus,
// selection and the reader's place survive it.

import { h, put, setText } from "./dom.js";

/**
 * A column: `title`; `text(row)`, which is shown, or which tells whether what `cell(row, table)` makes is
 * still current; `sort`, the server's name of the order; `numeric`, `wide` and `actions` for the layout.
 */
export class Table {
  element;
  #columns;
  #key;
  #rowClass;
  #body = h("tbody", { role: "rowgroup" });
  #caption;
  #rows = new Map();
  #headings = new Map();

  constructor({ columns, key, caption, rowClass = () => "", onSort = null }) {
    this.#columns = columns;
    this.#key = key;
    this.#rowClass = rowClass;
    this.#caption = h("caption", { class: "unseen" }, caption);
    this.element = h("div", { class: "table-box", tabindex: "0", role: "region", "aria-label": caption },
      h("table", { role: "table" }, this.#caption,
        h("thead", { role: "rowgroup" },
          h("tr", { role: "row" }, columns.map((column) => this.#heading(column, onSort)))),
        this.#body));
  }

  #heading(column, onSort) {
    const title = column.actions ? h("span", { class: "unseen" }, column.title) : column.title;
    const cell = h("th", { scope: "col", role: "columnheader", class: layout(column) },
      column.sort && onSort ? h("button", {
        type: "button", class: "sort", on: { click: () => onSort(column.sort) },
      }, title) : title);
    if (column.sort) this.#headings.set(column.sort, cell);
    return cell;
  }

  /** Marks the order that the rows are in. */
  showOrder(sort, isDescending) {
    for (const [name, cell] of this.#headings) {
      if (name === sort) cell.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
  }

  /** The row of a key as it was loaded last. */
  row(key) {
    return this.#rows.get(key)?.data;
  }

  get size() {
    return this.#rows.size;
  }

  update(rows) {
    const gone = new Map(this.#rows);
    let place = this.#body.firstElementChild;
    for (const data of rows) {
      const key = this.#key(data);
      const row = this.#rows.get(key) ?? this.#add(key);
      gone.delete(key);
      this.#fill(row, data);
      if (row.element === place) place = place.nextElementSibling;
      else this.#body.insertBefore(row.element, place);
    }
    for (const [key, row] of gone) {
      row.element.remove();
      this.#rows.delete(key);
    }
  }

  #add(key) {
    const cells = this.#columns.map((column) => h("td", {
      role: "cell", class: layout(column), "data-label": column.actions ? "" : column.title,
    }));
    const row = { element: h("tr", { role: "row" }, cells), cells, shown: [], data: null };
    this.#rows.set(key, row);
    return row;
  }

  #fill(row, data) {
    row.data = data;
    const rowClass = this.#rowClass(data);
    if (row.element.className !== rowClass) row.element.className = rowClass;
    this.#columns.forEach((column, index) => {
      const text = String(column.text(data) ?? "");
      if (row.shown[index] === text) return;
      row.shown[index] = text;
      // The listeners of a cell ask for the row again: by then it may have been refreshed.
      if (column.cell) put(row.cells[index], column.cell(data, () => row.data));
      else setText(row.cells[index], text);
    });
  }
}

function layout(column) {
  return [column.numeric && "numeric", column.wide && "wide", column.actions && "row-actions"]
    .filter(Boolean).join(" ");
}
