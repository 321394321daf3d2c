/** Formats of numbers, times and names. */

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });
const MOMENT = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });
const NUMBER = new Intl.NumberFormat("en-GB");
const SHORT = new Intl.NumberFormat("en-GB", { notation: "compact", maximumFractionDigits: 1 });
const DAY = 86_400_000;

const written = (format, time) => (Number.isNaN(Date.parse(time)) ? String(time ?? "") : format.format(new Date(time)));
export const clock = (time) => written(CLOCK, time);
export const moment = (time) => written(MOMENT, time);
export const date = (day) => written(DATE, day);
export const number = (count) => NUMBER.format(count);
export const short = (count) => SHORT.format(count);
export const many = (count, one, more = `${one}s`) => `${number(count)} ${count === 1 ? one : more}`;
/** The type without its domain: `orderPlaced` of `orders.orderPlaced`. */
export const bare = (type) => type.slice(type.indexOf(".") + 1);

/** Format a duration in milliseconds. */
export function span(milliseconds) {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 60_000) return `${(milliseconds / 1000).toFixed(milliseconds < 10_000 ? 2 : 1)} s`;
  if (milliseconds < 3_600_000) return `${Math.floor(milliseconds / 60_000)} min ${Math.round((milliseconds % 60_000) / 1000)} s`;
  return `${(milliseconds / 3_600_000).toFixed(1)} h`;
}

/** Format the time since a moment; the text does not change every second. */
export function ago(time, now = Date.now()) {
  const seconds = Math.max(0, (now - Date.parse(time)) / 1000);
  if (seconds < 10) return "just now";
  if (seconds < 60) return "less than a minute ago";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return moment(time);
}

/** The value of a date and time field as UTC. */
export const instant = (local) => (local && !Number.isNaN(Date.parse(local)) ? new Date(local).toISOString() : "");

/** A time as the value of a date and time field, in the browser's zone. */
export function local(time) {
  const at = Date.parse(time);
  return Number.isNaN(at) ? "" : new Date(at - new Date(at).getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

/** The number of days until a date; negative for a past one. */
export const daysUntil = (day, now = Date.now()) => Math.ceil((Date.parse(day) - now) / DAY);
