// Signing in: a token is tried before it is kept.

import { get, Problem } from "./api.js";
import { h, put } from "./dom.js";
import { field, problemBox } from "./parts.js";
import * as session from "./session.js";

/** What an HTTP field can carry of a token. */
const SENDABLE = /^[\u0021-\u007e]+$/;

export function signInView(root, message) {
  const token = field("Admin token", h("input", {
    type: "password", autocomplete: "off", spellcheck: "false", required: true,
  }), { hint: "Kept in this tab only, until you sign out or close it." });
  const problems = h("div", {}, message && h("p", { class: "box warn", role: "alert" }, message));
  const submit = h("button", { type: "submit", class: "button primary" }, "Sign in");
  const form = h("form", { class: "sign-in", novalidate: true, "aria-labelledby": "sign-in-title" },
    h("div", { class: "brand" }, h("img", { src: "console/icon.svg", alt: "", width: 40, height: 40 }),
      h("h1", { id: "sign-in-title" }, "POP Node")),
    problems, token.element, submit,
    h("p", { class: "hint" }, "The first token is in ", h("code", {}, "admin.token"),
      " of the node's data directory, or is what ", h("code", {}, "POP_ADMIN_TOKEN"), " was set to."));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const value = token.control.value.trim();
    put(problems);
    token.show(null);
    if (!SENDABLE.test(value)) {
      token.show(value === "" ? "A token is needed."
        : "This can't be a token: it has spaces or other signs.");
      token.control.focus();
      return;
    }
    submit.setAttribute("aria-disabled", "true");
    try {
      // The figures of the node itself are there whatever its database does.
      await get("stats", { token: value });
      session.signIn(value);
    } catch (error) {
      if (!(error instanceof Problem)) console.error(error);
      put(problems, problemBox(error));
      token.control.select();
    } finally {
      submit.removeAttribute("aria-disabled");
    }
  });
  put(root, h("main", { class: "sign-in-page" }, form));
  token.control.focus();
}
