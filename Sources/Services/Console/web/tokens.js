// Tokens of the admin API.

import { call, path } from "./api.js";
import { ago } from "./clock.js";
import { ask, showSecret } from "./dialog.js";
import { h, visible } from "./dom.js";
import { List } from "./list.js";
import { button, field, pill, select, shortID, text } from "./parts.js";

const SCOPES = [
  ["read", "read: look at everything but tokens, users and the audit trail"],
  ["operate", "operate: also drain, disconnect, close"],
  ["admin", "admin: everything"],
];
const LIFETIMES = [
  ["", "Never"], ["1", "In a day"], ["7", "In 7 days"], ["30", "In 30 days"], ["90", "In 90 days"],
  ["365", "In a year"],
];
const DAY_MILLISECONDS = 86_400_000;

export function tokensView(page) {
  page.title("Tokens");
  const list = new List({
    target: "tokens", query: page.route.query, isInAddress: true, seconds: 15,
    key: (token) => token.token_id,
    caption: "Tokens of the admin API",
    noun: "token",
    emptyText: "No tokens",
    columns: [
      { title: "Name", text: (each) => each.name, cell: (each) => text(each.name), wide: true },
      { title: "Scope", text: (each) => each.scope, cell: (each) => pill("info", visible(each.scope)) },
      { title: "Created", text: (each) => each.created_at, cell: (each) => ago(each.created_at) },
      { title: "By", text: (each) => each.created_by, cell: (each) => text(each.created_by) },
      { title: "Expires", text: (each) => each.expires_at, cell: (each) => ago(each.expires_at) },
      { title: "Last used", text: (each) => each.last_used_at, cell: (each) => ago(each.last_used_at) },
      { title: "Id", text: (each) => each.token_id, cell: (each) => shortID(String(each.token_id)) },
      {
        title: "Actions", actions: true, text: () => "revoke",
        cell: (token, current) => button(
          "Revoke…", () => askToRevoke(current(), () => list.refresh()), { kind: "small" }),
      },
    ],
  });
  page.actions(button("New token…", () => askForToken(() => list.refresh()), { kind: "primary" }));
  page.add(list.section);
}

function askForToken(done) {
  const fields = {
    name: field("Name", h("input", { type: "text", autocomplete: "off" }), {
      hint: "Who or what it is for; shown in the audit trail.",
    }),
    scope: field("Scope", select(SCOPES, "read")),
    expires_at: field("Expires", select(LIFETIMES, "90")),
  };
  ask({
    title: "A new token",
    fields, action: "Create token",
    run: async ({ reason, key }) => {
      const days = Number(fields.expires_at.control.value);
      const expiresAt = days > 0 ? new Date(Date.now() + days * DAY_MILLISECONDS).toISOString() : null;
      const body = { name: fields.name.control.value.trim(), scope: fields.scope.control.value };
      return (await call("POST", "tokens", {
        body: expiresAt === null ? body : { ...body, expires_at: expiresAt }, reason, key,
      })).data;
    },
    done: (result) => {
      showSecret({
        title: `The token ${visible(result.name)}`, text: "Use it as a bearer token, or as POP_TOKEN.",
        secret: result.token,
      });
      done();
    },
  });
}

function askToRevoke(token, done) {
  ask({
    title: `Revoke ${visible(token.name)}?`,
    text: "Whoever uses it is refused from then on.",
    action: "Revoke", danger: true, done, success: `${visible(token.name)} was revoked.`,
    run: ({ reason, key }) => call("DELETE", path("tokens", String(token.token_id)), { reason, key }),
  });
}
