// What a person needs of a page, whoever they are: names of controls, contrast of text. Gives back what is wrong.

const faults = [];

function isShown(element) {
  return element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0;
}

for (const control of document.querySelectorAll("input, select")) {
  const label = control.labels?.[0]?.textContent.trim() || control.getAttribute("aria-label");
  if (isShown(control) && !label) faults.push(`no label: ${control.outerHTML.slice(0, 80)}`);
}
for (const control of document.querySelectorAll("button, a")) {
  const label = control.getAttribute("aria-label") || control.textContent.trim();
  if (isShown(control) && !label) faults.push(`no name: ${control.outerHTML.slice(0, 80)}`);
}
for (const table of document.querySelectorAll("table")) {
  if (!table.caption?.textContent.trim()) faults.push("a table without a caption");
}
if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
if (document.documentElement.lang !== "en") faults.push("no language");
const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
if (new Set(ids).size !== ids.length) faults.push("an id occurs twice");

function colour(text) {
  const [red, green, blue, alpha = 1] = text.match(/[\d.]+/g).map(Number);
  return { red, green, blue, alpha };
}

function over(front, back) {
  const mix = (part) => front[part] * front.alpha + back[part] * (1 - front.alpha);
  return { red: mix("red"), green: mix("green"), blue: mix("blue"), alpha: 1 };
}

function behind(element) {
  const layers = [];
  for (let each = element; each; each = each.parentElement) {
    const background = colour(getComputedStyle(each).backgroundColor);
    if (background.alpha > 0) layers.unshift(background);
  }
  return layers.reduce((back, front) => over(front, back), { red: 255, green: 255, blue: 255, alpha: 1 });
}

function luminance({ red, green, blue }) {
  const [r, g, b] = [red, green, blue].map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(one, other) {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

// WCAG 2.2, 1.4.3: 4.5 for text; what can't be used is exempt, what is old is meant to look so.
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || !isShown(element)) continue;
  if (element.closest("[aria-disabled=true], .unseen, option, .stale, script, noscript, svg")) continue;
  const back = behind(element);
  const ratio = contrast(over(colour(getComputedStyle(element).color), back), back);
  if (ratio < 4.5) faults.push(`${ratio.toFixed(2)}: “${texts.currentNode.data.trim().slice(0, 40)}”`);
}

return [...new Set(faults)];
