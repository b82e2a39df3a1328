// Elements out of data. What devices, clients and operators say only ever becomes text nodes and attribute
// values: nothing here, or anywhere in the console, parses markup.

const SVG = "http://www.w3.org/2000/svg";

/** Makes an element. Attributes: null and false leave one out, `on` is a map of listeners. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for the elements of SVG. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child instanceof Node ? child : String(child));
  }
}

/** Replaces what an element holds. */
export function put(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Sets text only when it differs, so that selections and screen readers are left alone. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let lastNumber = 0;

/** An id that is new in this document, to tie labels and descriptions. */
export function newID(prefix) {
  lastNumber += 1;
  return `${prefix}-${lastNumber}`;
}

// Controls, bidirectional overrides and invisible signs can make one id look like another.
const hidden = new RegExp(
  "[\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u200b-\\u200f\\u2028-\\u202f\\u2060-\\u206f"
  + "\\ufeff\\ufff9-\\ufffb]", "gu");

/** The text with characters that don't show, or that reorder others, written as their codes. */
export function visible(text) {
  return String(text).replace(hidden, (sign) => `\\u{${sign.codePointAt(0).toString(16)}}`);
}

/** A foreign name as an element of its own that can't reorder its surroundings. */
export function name(text, attributes = {}) {
  const shown = visible(text);
  return h("bdi", { title: shown, ...attributes, class: `name ${attributes.class ?? ""}`.trim() }, shown);
}
