// The frame: who is signed in, the menu, and which view is shown.

import { startClock } from "./clock.js";
import { closeAll, closeQuestions } from "./dialog.js";
import { h, name, put, setText, visible } from "./dom.js";
import * as fleet from "./fleet.js";
import { Page } from "./page.js";
import { button, empty, pill } from "./parts.js";
import { currentRoute, link } from "./route.js";
import * as session from "./session.js";
import { signInView } from "./signin.js";
import { connsView } from "./conns.js";
import { deviceView, devicesView } from "./devices.js";
import { eventsView } from "./events.js";
import { auditView, drainsView, sessionsView } from "./history.js";
import { nodeView, nodesView } from "./nodes.js";
import { overviewView } from "./overview.js";
import { tokensView } from "./tokens.js";
import { usersView } from "./users.js";

const MENU = [
  ["overview", "Overview"], ["nodes", "Nodes"], ["devices", "Devices"], ["conns", "Conns"],
  ["sessions", "Sessions"], ["drains", "Drains"], ["events", "Events"], ["audit", "Audit"],
  ["users", "Users"], ["tokens", "Tokens"],
];

/** By view, what shows the list and what shows one thing of it. */
const VIEWS = {
  overview: { list: overviewView },
  nodes: { list: nodesView, one: nodeView },
  devices: { list: devicesView, one: deviceView },
  conns: { list: connsView },
  sessions: { list: sessionsView },
  drains: { list: drainsView },
  events: { list: eventsView },
  audit: { list: auditView },
  users: { list: usersView },
  tokens: { list: tokensView },
};

const root = document.getElementById("app");
let page = null;
let frame = null;

function show() {
  page?.leave();
  page = null;
  closeQuestions();
  if (session.token() === null) return;
  frame ??= makeFrame();
  if (root.firstElementChild !== frame.element) put(root, frame.element);
  const route = currentRoute();
  const view = viewOf(route);
  for (const [key, item] of frame.items) {
    if (key === route.view) {
      item.setAttribute("aria-current", "page");
      // In a narrow window the menu is a strip.
      item.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else {
      item.removeAttribute("aria-current");
    }
  }
  page = new Page(route, { isLive: view !== null });
  put(frame.main, page.element);
  if (view) {
    view(page);
  } else {
    page.title("Nothing here");
    page.add(empty("There is no such page", "The address may be mistyped."));
  }
  scrollTo(0, 0);
  page.focus();
}

function viewOf(route) {
  const views = Object.hasOwn(VIEWS, route.view ?? "") ? VIEWS[route.view] : null;
  switch (route.parts.length) {
    case 0: return views?.list ?? null;
    case 1: return views?.one ?? null;
    default: return null;
  }
}

function makeFrame() {
  const items = new Map(MENU.map(([view, title]) => [view, h("a", { href: link(view) }, title)]));
  const main = h("main", { id: "main" });
  const banner = h("div", { class: "banner-place", role: "status" });
  const answering = h("p", { class: "answering" });
  const element = h("div", { class: "frame" },
    button("Skip to content", () => page?.focus(), { kind: "skip" }),
    h("header", { class: "side" },
      h("a", { class: "brand", href: link("overview") },
        h("img", { src: "console/icon.svg", alt: "", width: 28, height: 28 }), h("span", {}, "POP Node")),
      h("nav", { class: "menu", "aria-label": "Main" }, [...items.values()]),
      h("div", { class: "side-end" }, answering,
        button("Sign out", () => session.signOut(), { kind: "quiet sign-out" }))),
    h("div", { class: "content" }, banner, main));
  fleet.onChange((state) => {
    showAnswering(answering, state);
    showBanner(banner, state);
  });
  return { element, items, main, banner };
}

function showAnswering(element, state) {
  const kind = state.nodeProblem ? "bad" : state.isReady === false ? "warn" : "ok";
  const word = state.nodeProblem ? "no answer" : state.isReady === false ? "not ready" : "ready";
  const said = [state.self, kind].join();
  if (element.dataset.said === said) return;
  element.dataset.said = said;
  put(element, h("span", { class: "muted" }, "Answering node"), state.self ? name(state.self) : "–",
    pill(kind, word));
}

/** What concerns every view, in one line above it. */
function showBanner(element, state) {
  const failing = state.checks?.filter((check) => !check.ok) ?? [];
  const isDatabaseAway = state.nodesProblem?.isDatabaseAway || state.statistics?.database_connected === false;
  let text = "";
  let kind = "warn";
  if (state.nodeProblem?.status === 0) {
    text = "The node does not answer. What is shown is from before; the console tries again.";
    kind = "bad";
  } else if (isDatabaseAway) {
    text = "The database is away: live conns and this node's figures go on, lists and history can't be read.";
  } else if (state.isReady === false) {
    const reasons = failing.filter((check) => check.required)
      .map((check) => `${visible(check.name)}: ${visible(check.detail)}`);
    text = `This node takes no new devices or clients (${reasons.join("; ") || "not ready"}).`;
  }
  setText(element, text);
  element.className = text === "" ? "banner-place" : `banner-place banner ${kind}`;
}

session.onChange((message) => {
  closeAll();
  if (session.token() === null) {
    page?.leave();
    page = null;
    frame = null;
    fleet.stop();
    document.title = "Sign in · POP Node";
    signInView(root, message);
  } else {
    fleet.start();
    show();
  }
});
addEventListener("hashchange", show);
startClock();
if (session.token() === null) signInView(root, "");
else {
  fleet.start();
  show();
}
