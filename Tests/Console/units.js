// Tests of the console's parts without a page, run in the browser that runs the console. Gives back what failed.

const failures = [];

function same(what, actual, expected) {
  const [one, other] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (one !== other) failures.push(`${what}: ${one} instead of ${other}`);
}

function formats(format) {
  for (const [value, expected] of [
    [0, "0 B"], [1, "1 B"], [1023, "1023 B"], [1024, "1 KiB"], [1536, "1.5 KiB"], [1048575, "1 MiB"],
    [10 * 1048576, "10 MiB"], [123456789, "118 MiB"], [2 ** 60, "1024 PiB"], [null, "–"], [undefined, "–"],
    [Number.NaN, "–"], ["5", "–"],
  ]) same(`bytes ${value}`, format.bytes(value), expected);
  for (const [value, expected] of [
    [null, ""], [0, "0"], [1000, "1000"], [1024, "1 KiB"], [1536, "1536"], [50 * 2 ** 30, "50 GiB"],
    [2 ** 53, "8 PiB"],
  ]) {
    same(`amount ${value}`, format.amount(value), expected);
    if (value !== null) same(`${value} there and back`, format.bytesOf(format.amount(value)), value);
  }
  for (const [value, expected] of [
    ["7", 7], ["1.5 GiB", 1610612736], ["1.5g", 1610612736], [" 2 mb ", 2097152], ["3B", 3], ["", null],
    ["-1", null], ["many", null], ["1 XiB", null], ["1e3", null],
  ]) same(`bytesOf ${value}`, format.bytesOf(value), expected);
  for (const [value, expected] of [
    [0, "0 bit/s"], [125, "1 kbit/s"], [124.99, "1 kbit/s"], [125000, "1 Mbit/s"], [156250000, "1.25 Gbit/s"],
    [null, "–"],
  ]) same(`rate ${value}`, format.rate(value), expected);
  for (const [value, expected] of [
    [0, "0 %"], [0.001, "0.1 %"], [0.099, "9.9 %"], [0.5, "50 %"], [0.999, "100 %"], [1, "100 %"], [null, "–"],
  ]) same(`percent ${value}`, format.percent(value), expected);
  for (const [value, expected] of [
    [0, "0 s"], [59.9, "59 s"], [60, "1 min"], [3725, "1 h 2 min"], [86400, "1 d"], [90061, "1 d 1 h"],
    [-5, "0 s"], [null, "–"],
  ]) same(`duration ${value}`, format.duration(value), expected);
  for (const [value, expected] of [
    [0.4, "now"], [-0.5, "now"], [1, "1 s ago"], [61, "1 min ago"], [7200, "2 h ago"], [172800, "2 d ago"],
    [-80, "in 1 min"], [-89.9 * 86400, "in 90 d"], [null, "–"],
  ]) same(`age ${value}`, format.age(value), expected);
  for (const [value, expected] of [
    [0, "0 ms"], [0.01, "< 0.1 ms"], [4.42, "4.4 ms"], [42.4, "42 ms"], [1500, "1.5 s"], [null, "–"],
  ]) same(`milliseconds ${value}`, format.milliseconds(value), expected);
  same("utc", format.utc("2026-01-31T09:05:00.120Z"), "2026-01-31 09:05:00 UTC");
  same("no utc", format.utc("soon"), "–");
}

function foreignText(dom) {
  same("plain", dom.visible("dev-1"), "dev-1");
  same("markup", dom.visible("<b>&amp;"), "<b>&amp;");
  same("reordering", dom.visible("a\u202eb"), "a\\u{202e}b");
  same("invisible", dom.visible("a\u200bb\ufeff"), "a\\u{200b}b\\u{feff}");
  same("controls", dom.visible("a\u0000\n\u009f"), "a\\u{0}\\u{a}\\u{9f}");
  const element = dom.name("<img src=x onerror=alert(1)>");
  same("no children", element.childElementCount, 0);
  same("its text", element.textContent, "<img src=x onerror=alert(1)>");
}

function paths(api) {
  same("segments", api.path("devices", "a/b?c#d", "load"), "devices/a%2Fb%3Fc%23d/load");
  for (const id of [".", ".."]) {
    let code = null;
    try {
      api.path("devices", id, "token");
    } catch (error) {
      code = error.code;
    }
    same(`${id} can't be addressed`, code, "not_addressable");
  }
  same("query", api.query({ a: 1, b: ["x", "y"], c: "", d: null, e: [], q: "&=" }), "?a=1&b=x&b=y&q=%26%3D");
  same("no query", api.query({ a: "" }), "");
  for (const [status, code, expected] of [
    [404, "not_found", true], [405, "method_not_allowed", true], [501, "not_implemented", true],
    [404, "device_not_found", false], [403, "forbidden", false], [0, "unreachable", false],
  ]) same(`${code} is not offered`, new api.Problem({ status, code, detail: "" }).isNotOffered, expected);
  const keys = new Set(Array.from({ length: 100 }, api.newKey));
  same("keys differ", keys.size, 100);
  same("a key", /^[0-9a-f]{32}$/.test(api.newKey()), true);
}

function events({ EventParser }) {
  const text = "\ufeff: comment\nid: 7\nevent: device.online\ndata: {\"a\":1}\n\ndata: x\r\ndata:y\r\n\r\n"
    + "retry: 250\nid: 8\r\rid: bad\0\ndata\n\nevent: lost\n\ndata: tail";
  const expected = [
    { id: "7", type: "device.online", data: "{\"a\":1}" }, { id: "7", type: "message", data: "x\ny" },
    { id: "8", type: "message", data: "" },
  ];
  const whole = new EventParser();
  same("whole", whole.feed(text), expected);
  same("retry", whole.retry, 250);
  same("last id", whole.lastID, "8");
  for (let cut = 1; cut < text.length; cut += 1) {
    const parser = new EventParser();
    same(`cut at ${cut}`, [...parser.feed(text.slice(0, cut)), ...parser.feed(text.slice(cut))], expected);
  }
  const single = new EventParser();
  same("sign by sign", [...text].flatMap((sign) => single.feed(sign)), expected);
  const resumed = new EventParser("42");
  same("an event without an id", resumed.feed("data: x\n\n"), [{ id: "42", type: "message", data: "x" }]);
  same("keeps the id", resumed.lastID, "42");
  let refused = false;
  try {
    new EventParser().feed(`data: ${"x".repeat(2 ** 21)}`);
  } catch {
    refused = true;
  }
  same("a line without end", refused, true);
}

function charts({ niceTicks, runs }) {
  same("ticks", niceTicks(37), [0, 10, 20, 30, 40]);
  same("ticks of shares", niceTicks(1), [0, 0.5, 1].length <= niceTicks(1).length ? niceTicks(1) : null);
  same("the top is covered", [0.3, 1, 7, 99, 1001, 123456].every((most) => niceTicks(most).at(-1) >= most), true);
  same("bytes", niceTicks(3 * 1024, 1024).every((tick) => tick % 1024 === 0), true);
  same("nothing", niceTicks(0), [0, 1]);
  same("a gap", runs([[0, 1], [1, 1], [2, 1], [9, 2], [10, 2]]), [[[0, 1], [1, 1], [2, 1]], [[9, 2], [10, 2]]]);
  same("no value", runs([[0, 1], [1, null], [2, 3]]), [[[0, 1]], [[2, 3]]]);
  same("none", runs([]), []);
}

async function run() {
  formats(await import("/console/format.js"));
  foreignText(await import("/console/dom.js"));
  paths(await import("/console/api.js"));
  events(await import("/console/stream.js"));
  charts(await import("/console/chart.js"));
  return failures;
}
