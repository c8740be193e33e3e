// The reader's language and the store's clock.
const words = JSON.parse(document.getElementById("words").textContent);
const language = document.documentElement.lang;
const zone = document.getElementById("main").dataset.zone ?? "UTC";

const clock = new Intl.DateTimeFormat(language, { timeZone: zone, hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const moment = new Intl.DateTimeFormat(language, { timeZone: zone, month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const full = new Intl.DateTimeFormat(language, { timeZone: zone, dateStyle: "full", timeStyle: "short" });
const day = new Intl.DateTimeFormat("en-CA", { timeZone: zone });

/** Return a text of the catalogue, with values where it has {name}. */
export function t(key, values = {}) {
  return (words[key] ?? key).replace(/\{(\w+)\}/g, (place, name) => String(values[name] ?? place));
}

/** Return whether the catalogue has a text. */
export const has = (key) => key in words;

const valid = (text) => text && !Number.isNaN(Date.parse(text));

/** Return the time of day, to the second. */
export const timeOf = (text) => (valid(text) ? clock.format(new Date(text)) : "");

/** Return the time of day; with the date where it is not today. */
export function since(text) {
  if (!valid(text)) return "–";
  const then = new Date(text);
  return day.format(then) === day.format(new Date()) ? clock.format(then).slice(0, 5) : moment.format(then);
}

/** Return the present moment in full. */
export const now = () => full.format(new Date());

/** Return how long ago a moment is, in two units at most. */
export function ago(text) {
  if (!valid(text)) return "";
  const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(text)) / 1000));
  const [s, min, h] = [seconds, Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  if (min < 1) return t("span.s", { n: s });
  if (h < 1) return t("span.min", { n: min });
  if (h < 24) return [t("span.h", { n: h }), min % 60 ? t("span.min", { n: min % 60 }) : ""].join(" ").trim();
  return [t("span.d", { n: Math.floor(h / 24) }), h % 24 ? t("span.h", { n: h % 24 }) : ""].join(" ").trim();
}
