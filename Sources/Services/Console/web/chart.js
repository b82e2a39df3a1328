// Lines over time, drawn in SVG. A gap in the data is a gap in the line; what is drawn is also said in words.

import { h, put, s, setText } from "./dom.js";
import { NONE } from "./format.js";

const HEIGHT = 220;
const LEAST_WIDTH = 260;
const MARGIN = { left: 76, right: 12, top: 12, bottom: 26 };
/** A pause this many times the usual step is a gap. */
const GAP_STEPS = 3;

/**
 * - series: `[{ title, style, points: [[seconds, value | null], ...] }]`, in order of time.
 * - range: `[from, to]` in seconds; format(value): how the axis and the readout show it.
 * - most: the top of the axis when it is known, e.g. 1 for a share; base: 1024 for bytes.
 */
export class LineChart {
  element;
  #plot = s("svg", { class: "chart", role: "img", height: HEIGHT });
  #summary = h("figcaption", { class: "chart-summary" });
  #readout = h("p", { class: "chart-readout muted", "aria-hidden": "true" });
  #marker = s("g", { class: "marker" });
  #data = null;
  #width = 0;
  #scale = null;

  constructor() {
    this.element = h("figure", { class: "chart-box" }, this.#summary, this.#plot, this.#readout);
    this.#plot.addEventListener("pointermove", (event) => this.#point(event));
    this.#plot.addEventListener("pointerleave", () => this.#clear());
    new ResizeObserver(() => this.#draw()).observe(this.#plot);
  }

  update(data) {
    this.#data = data;
    this.#width = 0;
    this.#draw();
    this.#describe(data);
  }

  /** Draws for the width that there is: text and lines keep their size in a narrow window. */
  #draw() {
    const width = Math.max(LEAST_WIDTH, this.#plot.clientWidth);
    if (this.#data === null || width === this.#width) return;
    this.#width = width;
    const { series, range, format, most = null, base = 1000 } = this.#data;
    const values = series.flatMap((each) => known(each.points));
    const ticks = niceTicks(most ?? Math.max(0, ...values), base);
    const [inner, height] = [width - MARGIN.left - MARGIN.right, HEIGHT - MARGIN.top - MARGIN.bottom];
    const scale = {
      width,
      x: (t) => MARGIN.left + ((t - range[0]) / (range[1] - range[0] || 1)) * inner,
      y: (v) => HEIGHT - MARGIN.bottom - (v / ticks.at(-1)) * height,
      time: (x) => range[0] + ((x - MARGIN.left) / inner) * (range[1] - range[0]),
    };
    this.#scale = scale;
    this.#plot.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    put(this.#plot, grid(ticks, scale, format), timeAxis(range, scale), series.map((each) => [
      s("path", { class: `line ${each.style}`, d: linePath(each.points, scale) }),
      loners(each.points).map(([t, v]) => s("circle", {
        class: `dot ${each.style}`, cx: scale.x(t).toFixed(1), cy: scale.y(v).toFixed(1), r: 2,
      })),
    ]), this.#marker);
    this.#clear();
  }

  #describe({ series, format }) {
    put(this.#summary, series.map((each) => {
      const values = known(each.points);
      const figures = values.length === 0 ? "no data" : `now ${format(values.at(-1))}, `
        + `least ${format(Math.min(...values))}, most ${format(Math.max(...values))}`;
      return h("span", { class: `legend ${each.style}` }, h("strong", {}, each.title), ` ${figures}`);
    }));
    this.#plot.setAttribute("aria-label", this.#summary.textContent);
  }

  #clear() {
    put(this.#marker);
    setText(this.#readout, "");
  }

  /** Shows the values at the time that is pointed at. */
  #point(event) {
    this.#clear();
    if (this.#data === null) return;
    const { series, format } = this.#data;
    const scale = this.#scale;
    const box = this.#plot.getBoundingClientRect();
    const at = scale.time(((event.clientX - box.left) / box.width) * scale.width);
    const found = series.map((each) => [each, nearest(each.points, at)]).filter(([, point]) => point);
    if (found.length === 0) return;
    const shownAt = found[0][1][0];
    const x = scale.x(shownAt);
    put(this.#marker, s("line", { x1: x, x2: x, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }),
      found.filter(([, [, value]]) => value !== null).map(([each, [t, value]]) => s("circle", {
        class: `dot ${each.style}`, cx: scale.x(t), cy: scale.y(value), r: 3.5,
      })));
    const figures = found.map(([each, [, value]]) =>
      `${each.title} ${value === null ? NONE : format(value)}`);
    setText(this.#readout, `${new Date(shownAt * 1000).toLocaleString()} · ${figures.join(" · ")}`);
  }
}

function known(points) {
  return points.map(([, value]) => value).filter((value) => value !== null);
}

function grid(ticks, scale, format) {
  return ticks.map((value) => s("g", { class: "tick" },
    s("line", { x1: MARGIN.left, x2: scale.width - MARGIN.right, y1: scale.y(value), y2: scale.y(value) }),
    s("text", { x: MARGIN.left - 8, y: scale.y(value) + 4, "text-anchor": "end" }, format(value))));
}

function timeAxis(range, scale) {
  const steps = [60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 7 * 86400];
  const most = Math.max(2, Math.min(8, Math.floor(scale.width / 90)));
  const step = steps.find((each) => (range[1] - range[0]) / each <= most) ?? 30 * 86400;
  const offset = new Date(range[1] * 1000).getTimezoneOffset() * 60;
  const first = Math.ceil((range[0] - offset) / step) * step + offset;
  const marks = [];
  for (let at = first; at < range[1]; at += step) marks.push(at);
  const options = step >= 86400 ? { month: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit" };
  return marks.map((at) => s("text", {
    class: "time", x: scale.x(at), y: HEIGHT - 6, "text-anchor": "middle",
  }, new Intl.DateTimeFormat([], { ...options, hourCycle: "h23" }).format(at * 1000)));
}

/** Ticks from 0 up to at least `most`, at round numbers of the base. */
export function niceTicks(most, base = 1000) {
  if (!(most > 0)) return [0, 1];
  const unit = base ** Math.floor(Math.log(most) / Math.log(base));
  const rough = most / unit / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((each) => each * power >= rough) * power * unit;
  const number = Math.ceil(most / step - 1e-9);
  return Array.from({ length: number + 1 }, (_, index) => index * step);
}

/** Runs of points without a gap between them. */
export function runs(points) {
  const steps = points.slice(1).map(([t], index) => t - points[index][0]).sort((a, b) => a - b);
  const usual = steps[Math.floor(steps.length / 2)] ?? 0;
  const result = [];
  let run = [];
  let last = null;
  for (const [t, value] of points) {
    if (value === null || (last !== null && t - last > usual * GAP_STEPS)) {
      if (run.length > 0) result.push(run);
      run = [];
    }
    if (value !== null) run.push([t, value]);
    last = t;
  }
  if (run.length > 0) result.push(run);
  return result;
}

function linePath(points, scale) {
  return runs(points).map((run) => run.map(([t, v], index) =>
    `${index === 0 ? "M" : "L"}${scale.x(t).toFixed(1)} ${scale.y(v).toFixed(1)}`).join("")).join("");
}

/** Points with a gap on both sides: a line would not show them. */
function loners(points) {
  return runs(points).filter((run) => run.length === 1).map(([point]) => point);
}

function nearest(points, at) {
  let best = null;
  for (const point of points) {
    if (best === null || Math.abs(point[0] - at) < Math.abs(best[0] - at)) best = point;
  }
  return best;
}

/** A line without axes, as wide as its box, for a headline figure. */
export function sparkline(values, style = "") {
  const most = Math.max(...values.filter((value) => value !== null), 1e-9);
  const points = values.map((value, index) => [index, value]);
  const scale = {
    x: (index) => (values.length < 2 ? 0 : (index / (values.length - 1)) * 100),
    y: (value) => 31 - (value / most) * 26,
  };
  const areas = runs(points).map((run) => `${linePath(run, scale)}V32H${scale.x(run[0][0]).toFixed(1)}Z`)
    .join("");
  return s("svg", {
    viewBox: "0 0 100 32", class: `spark ${style}`, preserveAspectRatio: "none", "aria-hidden": "true",
  }, s("path", { class: `area ${style}`, d: areas }),
  s("path", { class: `line ${style}`, d: linePath(points, scale), "vector-effect": "non-scaling-stroke" }));
}
