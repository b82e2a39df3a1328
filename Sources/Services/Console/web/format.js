// Numbers and times as people read them. An unknown value is a dash, never a zero.

export const NONE = "–";

const counts = new Intl.NumberFormat("en");

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

export function count(value) {
  return isNumber(value) ? counts.format(value) : NONE;
}

/** 1536 -> "1.5 KiB" */
export function bytes(value) {
  return scaled(value, 1024, BYTE_UNITS);
}

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** What `bytesOf` reads as just that number: the biggest unit that it is a whole number of; "" without one. */
export function amount(value) {
  if (!isNumber(value)) return "";
  let [rest, unit] = [value, 0];
  while (rest > 0 && rest % 1024 === 0 && unit < BYTE_UNITS.length - 1) [rest, unit] = [rest / 1024, unit + 1];
  return unit === 0 ? String(rest) : `${rest} ${BYTE_UNITS[unit]}`;
}

/** "1.5 GiB", "1.5g" or "1610612736" -> 1610612736; null for what is none. */
export function bytesOf(text) {
  const parts = /^(\d+(?:\.\d+)?)\s*(?:([kmgtp])(?:i?b)?|b)?$/i.exec(text.trim());
  if (!parts) return null;
  const power = parts[2] ? "kmgtp".indexOf(parts[2].toLowerCase()) + 1 : 0;
  return Math.round(Number(parts[1]) * 1024 ** power);
}

/** Bytes a second, as bits: what links are sold and measured in. */
export function rate(bytesPerSecond) {
  return bitRate(isNumber(bytesPerSecond) ? bytesPerSecond * 8 : null);
}

export function bitRate(bitsPerSecond) {
  return scaled(bitsPerSecond, 1000, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"]);
}

function scaled(value, base, units) {
  if (!isNumber(value)) return NONE;
  let rest = Math.max(0, value);
  let unit = 0;
  while (rest >= base && unit < units.length - 1) {
    rest /= base;
    unit += 1;
  }
  // What would round up to the base is one of the next unit.
  if (unit < units.length - 1 && Number(rest.toFixed(0)) >= base) {
    rest /= base;
    unit += 1;
  }
  const digits = unit === 0 || rest >= 99.95 ? 0 : rest >= 9.995 ? 1 : 2;
  return `${trimmed(rest, digits)} ${units[unit]}`;
}

function trimmed(value, digits) {
  const text = value.toFixed(digits);
  return digits === 0 ? text : text.replace(/\.?0+$/, "");
}

/** What went to targets and what came from them. */
export function upDown(up, down, format = bytes) {
  return `${format(up)} / ${format(down)}`;
}

/** 0.123 -> "12 %" */
export function percent(fraction) {
  if (!isNumber(fraction)) return NONE;
  const value = fraction * 100;
  return `${value > 0 && value < 9.95 ? trimmed(value, 1) : value.toFixed(0)} %`;
}

export function milliseconds(value) {
  if (!isNumber(value)) return NONE;
  if (value > 0 && value < 0.05) return "< 0.1 ms";
  return value >= 1000 ? `${trimmed(value / 1000, 2)} s` : `${trimmed(value, value < 10 ? 1 : 0)} ms`;
}

/** 3725 -> "1 h 2 min": two units at most. */
export function duration(seconds) {
  if (!isNumber(seconds)) return NONE;
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [
    [Math.floor(whole / 86400), "d"], [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"], [whole % 60, "s"],
  ];
  const first = parts.findIndex(([amount]) => amount > 0);
  if (first < 0) return "0 s";
  return parts.slice(first, first + 2).filter(([amount]) => amount > 0)
    .map(([amount, unit]) => `${amount} ${unit}`).join(" ");
}

/** How long ago a time is, in one unit. */
export function age(seconds) {
  if (!isNumber(seconds)) return NONE;
  // Half a unit more, so that what was asked for is what is read: 90 days, not 89.
  if (seconds < -1) return `in ${largest(-seconds + halfUnit(-seconds))}`;
  return seconds < 1 ? "now" : `${largest(seconds)} ago`;
}

function halfUnit(seconds) {
  return (seconds < 60 ? 1 : seconds < 3600 ? 60 : seconds < 86400 ? 3600 : 86400) / 2;
}

function largest(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** "2026-01-31T09:05:00.120Z" -> "2026-01-31 09:05:00 UTC" */
export function utc(text) {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return NONE;
  return `${at.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** "1 device", "2 devices" */
export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
