// Users of the ingress: who may come in, and what each may have.

import { call, path } from "./api.js";
import { ago } from "./clock.js";
import { ask } from "./dialog.js";
import { h, name, visible } from "./dom.js";
import { amount, bytes, bytesOf, count, rate } from "./format.js";
import { List } from "./list.js";
import { button, field, meter, none, text } from "./parts.js";
import { link } from "./route.js";

const NO_LIMIT = "Empty: no limit.";

export function usersView(page) {
  page.title("Users");
  const refresh = () => list.refresh();
  const list = new List({
    target: "users", query: page.route.query, isInAddress: true, seconds: 10,
    key: (user) => user.name,
    caption: "Users of the ingress",
    noun: "user",
    emptyText: "No users",
    emptyDetail: "Clients come in as users where ingress.auth is password.",
    columns: [
      {
        title: "Name", text: (user) => user.name, wide: true,
        cell: (user) => h("a", { href: link("conns", { user: user.name }), title: "Show its live conns" },
          name(user.name)),
      },
      {
        title: "Used this month", text: (user) => `${user.bytes_used} ${user.bytes_quota}`, cell: used,
        numeric: true,
      },
      {
        title: "Conns at most", text: (user) => user.max_conns, numeric: true,
        cell: (user) => (user.max_conns === null ? none() : count(user.max_conns)),
      },
      {
        title: "Rate at most", text: (user) => user.rate_bytes_per_second, numeric: true,
        cell: (user) => (user.rate_bytes_per_second === null ? none() : rate(user.rate_bytes_per_second)),
      },
      {
        title: "Devices in", text: (user) => locationsText(user),
        cell: (user) => text(locationsText(user) || "anywhere"),
      },
      { title: "Created", text: (user) => user.created_at, cell: (user) => ago(user.created_at) },
      {
        title: "Actions", actions: true, text: () => "limits password delete",
        cell: (user, current) => [
          button("Limits…", () => askForLimits(current(), refresh), { kind: "small" }),
          button("Password…", () => askForPassword(current(), refresh), { kind: "small" }),
          button("Delete…", () => askToDelete(current(), refresh), { kind: "small" }),
        ],
      },
    ],
  });
  page.actions(button("New user…", () => askForUser(refresh), { kind: "primary" }));
  page.add(list.section);
}

function used(user) {
  if (user.bytes_quota === null) return bytes(user.bytes_used);
  const share = user.bytes_quota > 0 ? user.bytes_used / user.bytes_quota : 1;
  return meter(share, `${bytes(user.bytes_used)} of ${bytes(user.bytes_quota)}`);
}

function locationsText(user) {
  return user.allowed_locations.join(", ");
}

// What is asked for.

function askForUser(done) {
  const fields = {
    name: field("Name", input("", { autocapitalize: "none", autocomplete: "username" }),
      { hint: "Letters, digits and . _ @ +" }),
    password: passwordField(),
    ...limitFields(null),
  };
  ask({
    title: "A new user",
    fields, action: "Create user", done, success: (user) => `${visible(user.name)} may come in.`,
    run: async ({ reason, key }) => (await call("POST", "users", {
      body: {
        name: fields.name.control.value.trim(), password: fields.password.control.value, ...changed(fields),
      },
      reason, key,
    })).data,
  });
}

function askForLimits(user, done) {
  const fields = limitFields(user);
  ask({
    title: `Limits of ${visible(user.name)}`,
    text: "They hold at all nodes within two seconds. Open conns stay, unless the bytes are used up.",
    fields, action: "Change limits", done, success: `The limits of ${visible(user.name)} were changed.`,
    run: ({ reason, key }) => call("PATCH", path("users", user.name), { body: changed(fields), reason, key }),
  });
}

function askForPassword(user, done) {
  const fields = { password: passwordField() };
  // So that a password manager keeps the password under the user's name.
  fields.password.element.prepend(input(user.name, { autocomplete: "username", hidden: true }));
  ask({
    title: `A new password for ${visible(user.name)}`,
    text: "The old one lets nobody in any more. Open conns stay.",
    fields, action: "Change password", done,
    success: `${visible(user.name)} has another password.`,
    run: ({ reason, key }) => call("PATCH", path("users", user.name), {
      body: { password: fields.password.control.value }, reason, key,
    }),
  });
}

function askToDelete(user, done) {
  ask({
    title: `Delete ${visible(user.name)}?`,
    text: "The user can't come in any more, and its conns end at every node.",
    action: "Delete", danger: true, done, success: `${visible(user.name)} was deleted.`,
    run: ({ reason, key }) => call("DELETE", path("users", user.name), { reason, key }),
  });
}

// Fields. Only what was changed is sent; what can't be read goes out as it is, so that the node says what is wrong.

function limitFields(user) {
  return {
    max_conns: field("Conns at most", input(user?.max_conns ?? ""), { hint: `At one node. ${NO_LIMIT}` }),
    bytes_quota: field("Bytes a month", input(amount(user?.bytes_quota ?? null)),
      { hint: `Such as 50 GiB, both ways, at all nodes. ${NO_LIMIT}` }),
    rate_bytes_per_second: field("Bytes a second", input(amount(user?.rate_bytes_per_second ?? null)),
      { hint: `Such as 2 MiB. ${NO_LIMIT}` }),
    allowed_locations: field("Locations", input(user ? locationsText(user) : ""),
      { hint: "Of the devices it may use, with commas between them. Empty: anywhere." }),
  };
}

const READERS = {
  max_conns: (value) => (/^\d+$/.test(value) ? Number(value) : value),
  bytes_quota: (value) => bytesOf(value) ?? value,
  rate_bytes_per_second: (value) => bytesOf(value) ?? value,
};

function changed(fields) {
  const body = {};
  for (const [member, read] of Object.entries(READERS)) {
    const { value, defaultValue } = fields[member].control;
    if (value !== defaultValue) body[member] = value.trim() === "" ? null : read(value.trim());
  }
  const { value, defaultValue } = fields.allowed_locations.control;
  if (value !== defaultValue) {
    body.allowed_locations = value.split(",").map((each) => each.trim()).filter((each) => each !== "");
  }
  return body;
}

function passwordField() {
  return field("Password", h("input", { type: "password", autocomplete: "new-password", maxlength: 255 }),
    { hint: "Kept as a hash; nobody can read it again." });
}

function input(value, attributes = {}) {
  return h("input", {
    type: "text", value: String(value), autocomplete: "off", spellcheck: "false", ...attributes,
  });
}
