// How a device was loaded, from its reports.

import { get, path, query } from "./api.js";
import { now } from "./clock.js";
import { LineChart } from "./chart.js";
import { h } from "./dom.js";
import { bitRate, bytes, count, milliseconds, percent } from "./format.js";
import { Section } from "./page.js";
import { empty, select } from "./parts.js";

const SPANS = [
  ["900", "15 minutes"], ["3600", "1 hour"], ["21600", "6 hours"], ["86400", "1 day"], ["604800", "7 days"],
];
/** About as many points as the chart has room for. */
const POINTS = 240;

const column = (member) => (points) => points.map((point) => [
  Date.parse(point.sampled_at) / 1000, typeof point[member] === "number" ? point[member] : null,
]);

const MEASURES = {
  traffic: {
    title: "Traffic", format: bitRate,
    series: [
      ["To targets", "sent", flow("bytes_sent")], ["From targets", "received", flow("bytes_received")],
    ],
  },
  conns: {
    title: "Conns", format: (value) => count(Math.round(value * 10) / 10),
    series: [["Conns", "conns", column("active_conns")]],
  },
  cpu: { title: "CPU", format: percent, most: 1, series: [["CPU", "sent", column("cpu_utilization")]] },
  memory: {
    title: "Memory", format: bytes, base: 1024, series: [["In use", "sent", column("memory_used_bytes")]],
  },
  rtt: { title: "Round trip", format: milliseconds, series: [["Round trip", "sent", column("rtt_ms")]] },
};

/** Bits a second between reports. Counters start again with each session: a fall is no flow. */
function flow(member) {
  return (points) => points.map((point, index) => {
    const at = Date.parse(point.sampled_at) / 1000;
    if (index === 0) return [at, null];
    const before = points[index - 1];
    const seconds = at - Date.parse(before.sampled_at) / 1000;
    const moved = point[member] - before[member];
    return [at, seconds > 0 && moved >= 0 ? (moved * 8) / seconds : null];
  });
}

export function loadSection(id) {
  const span = select(SPANS, "3600");
  const measure = select(Object.entries(MEASURES).map(([key, { title }]) => [key, title]), "traffic");
  span.setAttribute("aria-label", "Time shown");
  measure.setAttribute("aria-label", "What is shown");
  const chart = new LineChart();
  let points = [];
  const show = () => {
    const { series, format, most, base } = MEASURES[measure.value];
    const to = now() / 1000;
    chart.update({
      series: series.map(([title, style, values]) => ({ title, style, points: values(points) })),
      range: [to - Number(span.value), to], format, most, base,
    });
    section.show(points.length > 0 ? chart.element : nothing);
  };
  const nothing = empty("No reports in this time", "A device reports its load while it is connected.");
  const section = new Section({
    title: "Load", seconds: 15, actions: h("span", { class: "button-row" }, measure, span),
    load: async (signal) => {
      const seconds = Number(span.value);
      const to = now();
      const answer = await get(path("devices", id, "load") + query({
        from: new Date(to - seconds * 1000).toISOString(),
        step_seconds: Math.max(1, Math.floor(seconds / POINTS)),
      }), { signal });
      if (signal.aborted) return;
      points = answer.items;
      show();
    },
  });
  span.addEventListener("change", () => section.refresh());
  measure.addEventListener("change", show);
  return section;
}
