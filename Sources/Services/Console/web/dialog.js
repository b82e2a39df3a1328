// What changes something is asked about first, with room for a reason, and is sent with a key of its own so
// that a second attempt after a broken connection does nothing twice.

import { newKey, Problem } from "./api.js";
import { h, newID, put } from "./dom.js";
import { notify } from "./notices.js";
import { button, field, problemBox } from "./parts.js";

/** As many bytes as the API keeps of a reason. */
const LONGEST_REASON = 1024;

/**
 * Asks, and runs the action.
 * - fields: `{ name: field(...) }`, whose values `read` may use; faults of the node are shown beside them.
 * - run({ reason, key }): the call; what it throws is shown, and the dialog stays.
 * - done(result): after it; `success` is what is said then, text or a function of the result.
 * - extra: `{ label, run }`, a second button that changes nothing, such as a preview.
 */
export function ask({
  title, text = [], fields = {}, action, danger = false, run, done = null, success = null, extra = null,
}) {
  const reason = field("Reason", h("input", { type: "text", maxlength: LONGEST_REASON, autocomplete: "off" }),
    { hint: "Kept in the audit trail." });
  const problems = h("div");
  const submit = h("button", { type: "submit", class: `button ${danger ? "danger" : "primary"}` }, action);
  const cancel = button("Cancel", () => dialog.close());
  const more = extra && button(extra.label, async () => {
    const ended = await attempt(extra.run, more);
    if (ended) put(problems, h("div", { class: "box info", role: "status" }, ended.result));
  });
  const form = h("form", { novalidate: true },
    [text].flat().map((each) => (each instanceof Node ? each : h("p", {}, each))),
    Object.values(fields).map((each) => each.element), reason.element, problems,
    h("div", { class: "dialog-actions" }, more, cancel, submit));
  const dialog = open(title, form);
  let unanswered = { wish: null, key: null };

  async function attempt(work, control) {
    if (control.getAttribute("aria-disabled") === "true") return null;
    control.setAttribute("aria-disabled", "true");
    put(problems);
    for (const each of [...Object.values(fields), reason]) each.show(null);
    try {
      return { result: await work() };
    } catch (error) {
      show(error);
      return null;
    } finally {
      control.removeAttribute("aria-disabled");
    }
  }

  function show(error) {
    if (error.status > 0) unanswered = { wish: null, key: null };
    if (!(error instanceof Problem)) console.error(error);
    for (const fault of error.errors ?? []) {
      const named = fault.field === "reason" ? reason : fields[fault.field.replace(/[[.].*$/, "")];
      named?.show(fault.message);
    }
    put(problems, problemBox(error));
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const given = reason.control.value.trim();
    // While no answer came, the same wish goes out with the same key; another wish has another.
    const wish = JSON.stringify([given, ...Object.values(fields).map((each) => [
      each.control.value, each.control.checked,
    ])]);
    if (unanswered.wish !== wish) unanswered = { wish, key: newKey() };
    const ended = await attempt(() => run({ reason: given, key: unanswered.key }), submit);
    if (!ended) return;
    dialog.close();
    const said = typeof success === "function" ? success(ended.result) : success;
    if (said) notify(said);
    done?.(ended.result);
  });
  (Object.values(fields)[0] ?? reason).control.focus();
  return dialog;
}

/** Shows a secret that can't be had again. Only the button closes it. */
export function showSecret({ title, text, secret }) {
  const value = h("code", { class: "secret", tabindex: "0" }, secret);
  const copied = h("span", { role: "status", class: "muted" });
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(secret);
      put(copied, "Copied.");
    } catch {
      // Without a secure context there is no clipboard: the text is selected to be copied by hand.
      getSelection().selectAllChildren(value);
      put(copied, "Selected: copy it with the keyboard.");
    }
  });
  const close = button("I have stored it", () => dialog.close(), { kind: "primary" });
  const dialog = open(title, h("div", {}, h("p", {}, text), value,
    h("p", { class: "box warn" }, "It is shown only now and can't be shown again."),
    h("div", { class: "dialog-actions" }, copied, copy, close)), { closedby: "none" });
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  copy.focus();
}

function open(title, content, attributes = {}) {
  const heading = newID("dialog");
  const opener = document.activeElement;
  const dialog = h("dialog", { "aria-labelledby": heading, ...attributes },
    h("h2", { id: heading }, title), content);
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (opener?.isConnected) opener.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Closes what is open, because the page behind it is another now; a secret would be lost with it. */
export function closeQuestions() {
  for (const dialog of document.querySelectorAll("dialog:not([closedby=none])")) dialog.close();
}

/** Closes everything: nobody is signed in any more. */
export function closeAll() {
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
}
