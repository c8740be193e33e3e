// The page of a store: what the stream says is drawn, nothing is asked for twice.
import { draw, make, swap } from "./dom.js";
import { listen } from "./live.js";
import { doubts, strays, tasks } from "./refill.js";
import { drawShelf, expected, named, patterns, sentence, STATES } from "./shelf.js";
import { ago, has, now, since, t, timeOf } from "./words.js";

const KEPT = 50;
const $ = (id) => document.getElementById(id);
const home = $("main").dataset.store;
const devices = new Map();
const cards = new Map();
const changed = new Set();
let waiting = false;

// By the recorder's clock, as what it has heard is; the reader's may be another.
const ahead = Date.parse($("main").dataset.now) - Date.now();
const recorderNow = () => Date.now() + ahead;

const enc = encodeURIComponent;
const productPage = (label) => `${home}/products/${enc(label)}`;
const slotPage = (device, slot) => `${home}/devices/${enc(device)}/slots/${enc(slot)}`;

/** Draw soon, and once for everything that comes until then. */
function soon() {
  if (waiting) return;
  waiting = true;
  setTimeout(() => {
    waiting = false;
    for (const name of changed) if (devices.has(name)) drawCard(devices.get(name));
    changed.clear();
    drawTasks();
  }, 8);
}

function facings(product) {
  const signs = "■".repeat(Math.min(product.filled, 20)) + "□".repeat(Math.min(Math.max(product.facings - product.filled, 0), 20));
  return make("span", {}, make("span", { class: "facings", "aria-hidden": "true" }, signs), make("span", {}, t("product.facings", { filled: product.filled, facings: product.facings })));
}

function level(product) {
  return make("span", { class: `level ${product.state}` }, `${{ out: "✕", low: "▼", ok: "✓" }[product.state] ?? ""} ${t(`level.${product.state}`)}`);
}

function drawTasks() {
  const all = [...devices.values()];
  const [missing, stray] = [tasks(all, recorderNow()), strays(all)];
  const task = (kind, attributes, ...parts) => make("li", { class: kind, ...attributes }, make("span", { class: "tick", "aria-hidden": "true" }, "☐"), ...parts);
  const when = (text) => make("span", { class: "when" }, since(text), make("span", { class: "quiet block" }, ago(text)));
  const rows = missing.map(({ product, shelf, doubtful }) => {
    const name = make("span", { class: "what" }, make("a", { href: productPage(product.label) }, product.name), product.gtin ? make("span", { class: "quiet block" }, product.gtin) : "");
    const where = make("span", { class: "where" }, t("shelf.name", { shelf }), doubtful ? make("span", { class: "doubt block" }, `⚠ ${t("refill.doubtful")}`) : "");
    return task(product.state, { "data-task": product.label }, name, where, make("span", { class: "how" }, level(product), make("span", { class: "block" }, facings(product))), when(product.since));
  });
  rows.push(...stray.map(({ device, name, slot, shelf }) => {
    const text = t(`refill.${slot.state}`, { label: named(device.state, slot.label) });
    const link = make("span", { class: "what" }, make("a", { href: slotPage(device.device, name) }, text));
    return task("stray", { "data-stray": name }, link, make("span", { class: "where" }, `${t("shelf.name", { shelf })}, ${name}`), make("span", { class: "how" }, t(`slot.${slot.state}`)), when(slot.since));
  }));
  swap($("tasks"), ...rows);
  $("tasks").hidden = rows.length === 0;
  $("nothing").hidden = rows.length > 0;
  $("nothing").textContent = t("refill.nothing");
  const away = all.filter((device) => doubts(device, recorderNow()).length).length;
  const counts = { out: missing.filter(({ product }) => product.state === "out").length, low: missing.filter(({ product }) => product.state === "low").length };
  const pills = Object.entries(counts).map(([key, n]) => make("li", { class: `pill ${n ? key : "ok"}` }, t(`home.${key}`, { n })));
  if (away) pills.push(make("li", { class: "pill bad" }, `⚠ ${t("store.doubtful", { n: away })}`));
  swap($("counts"), ...pills);
}

function newCard(device) {
  const card = make("section", { class: "shelf", "data-device": device.device });
  const parts = {
    title: make("h2"),
    pills: make("ul", { class: "pills" }),
    alarm: make("p", { class: "alarm", hidden: "" }),
    picture: draw("svg", { class: "picture", role: "img" }),
    tiles: make("ul", { class: "tiles" }),
    table: make("tbody"),
  };
  const head = make("tr", {}, ...["slot", "state", "since"].map((key) => make("th", { scope: "col" }, t(`slots.${key}`))));
  const list = make("details", { class: "screen-only" }, make("summary", {}, t("slots.title")), make("table", {}, make("thead", {}, head), parts.table));
  const editor = make("a", { href: `${home}/devices/${enc(device.device)}/planogram` }, t("editor.open-page"));
  const links = "edits" in $("main").dataset ? [make("p", { class: "links screen-only" }, editor)] : [];
  card.append(make("div", { class: "title" }, parts.title, parts.pills, ...links), parts.alarm, parts.picture, parts.tiles, list);
  parts.picture.addEventListener("click", (event) => {
    const slot = event.target.closest("[data-slot]")?.dataset.slot;
    if (slot) location.assign(slotPage(device.device, slot));
  });
  cards.set(device.device, { card, ...parts });
  const order = [...devices.values()].sort((a, b) => byShelf(a, b)).map((item) => cards.get(item.device)?.card).filter(Boolean);
  $("shelves").replaceChildren(...order);
}

function byShelf(a, b) {
  return (a.state?.shelf ?? "").localeCompare(b.state?.shelf ?? "", undefined, { numeric: true }) || a.device.localeCompare(b.device);
}

function drawCard(device) {
  if (!cards.has(device.device)) newCard(device);
  const { card, title, pills, alarm, picture, tiles, table } = cards.get(device.device);
  const { state, health } = device;
  title.textContent = state ? t("shelf.name", { shelf: state.shelf }) : device.device;
  drawPills(pills, device);
  const reasons = doubts(device, recorderNow());
  const stale = Object.values(state?.slots ?? {}).some((slot) => slot.stale);
  card.classList.toggle("doubtful", reasons.length > 0);
  alarm.hidden = reasons.length === 0 && !stale;
  const words = reasons.map((reason) => (has(`doubt.${reason}`) ? t(`doubt.${reason}`) : reason));
  const said = words.length ? words.join(" · ") : t("doubt.stale");
  if (!alarm.hidden) alarm.textContent = `⚠ ${said} ${t("doubt.last-seen", { time: since(state?.time ?? health?.time) })}`;
  if (!state) return;
  drawShelf(picture, state);
  swap(tiles, ...state.products.map(tile));
  swap(table, ...Object.keys(state.planogram.slots).map((name) => {
    const slot = state.slots[name] ?? {};
    return make("tr", {}, make("th", { scope: "row" }, make("a", { href: slotPage(device.device, name) }, name)), make("td", {}, sentence(name, slot, expected(state, name), named(state, slot.label)).slice(name.length + 2)), make("td", {}, since(slot.since)));
  }));
}

function drawPills(pills, { device, state, health }) {
  const found = [make("li", { class: "pill" }, device)];
  if (health) found.push(make("li", { class: `pill ${health.status === "online" ? "good" : "bad"}` }, t(`status.${health.status}`)));
  if (health?.outbox_depth) found.push(make("li", { class: "pill" }, t("health.waiting", { n: health.outbox_depth })));
  if (health?.dropped_events) found.push(make("li", { class: "pill bad" }, t("health.dropped", { n: health.dropped_events })));
  if (state?.model) found.push(make("li", { class: "pill screen-only" }, `${state.model.name} ${state.model.version}`));
  pills.replaceChildren(...found);
}

function tile(product) {
  const name = make("a", { href: productPage(product.label) }, product.name);
  return make("li", { class: `tile ${product.state}`, "data-product": product.label }, make("span", { class: "name" }, name), level(product), facings(product),
    make("span", { class: "quiet" }, product.since ? t("product.since", { time: since(product.since) }) : ""));
}

function say({ data, subject }) {
  if (!data) return subject;
  if (data.fault) return t(`doubt.${data.fault}`);
  if (data.facings) return `${data.product.name}: ${t("product.facings", data)}`;
  if (data.slot) return `${sentence(data.slot, data, data.product?.name)}${data.state === "misplaced" ? ` · ${t("log.belongs", { label: data.product.label })}` : ""}`;
  return data.model ? t("log.agent", { agent: data.agent, name: data.model.name, version: data.model.version }) : subject;
}

function log({ event }) {
  const kind = event.type.split(".")[2] ?? event.type;
  const shelf = event.data?.shelf ? t("shelf.name", { shelf: event.data.shelf }) : "";
  const row = make("li", { class: kind }, make("time", { datetime: event.time ?? "" }, timeOf(event.time)),
    make("b", {}, has(`kind.${kind}`) ? t(`kind.${kind}`) : kind), make("span", { class: "quiet" }, shelf), make("span", {}, say(event)));
  $("events").prepend(row);
  while ($("events").children.length > KEPT) $("events").lastChild.remove();
}

document.body.append(patterns());
$("legend").append(...[...STATES, "stale"].map((state) => {
  const quad = "2,2 38,2 38,26 2,26";
  const known = state === "stale" ? "present stale" : state;
  return make("li", {}, draw("svg", { viewBox: "0 0 40 28", width: 40, height: 28, "aria-hidden": "true", class: "picture sample" }, draw("g", { class: `slot ${known}` }, draw("polygon", { points: quad }))), t(`slot.${state}`));
}));
$("print").addEventListener("click", () => window.print());
window.addEventListener("beforeprint", () => ($("printed").textContent = now()));
/** Change an object as a JSON merge patch (RFC 7396) says. */
function merge(into, patch) {
  for (const [key, value] of Object.entries(patch)) {
    const plain = value && typeof value === "object" && !Array.isArray(value);
    if (value === null) delete into[key];
    else if (plain && into[key] && typeof into[key] === "object") merge(into[key], value);
    else into[key] = value;
  }
}

function redraw(name) {
  changed.add(name);
  soon();
}

function forget(name) {
  devices.delete(name);
  cards.get(name)?.card.remove();
  cards.delete(name);
}

listen($("main").dataset.live, {
  // Everything comes anew: what is not among it is gone.
  begin: ({ devices: names }) => {
    $("events").replaceChildren();
    for (const name of [...devices.keys()].filter((known) => !names.includes(known))) forget(name);
    soon();
  },
  gone: ({ device }) => {
    forget(device);
    soon();
  },
  device: (device) => {
    devices.set(device.device, device);
    redraw(device.device);
  },
  change: (patch) => {
    merge(devices.get(patch.device), patch);
    redraw(patch.device);
  },
  event: log,
});
// Also without news: that there is none is news, too.
setInterval(() => [...devices.keys()].forEach(redraw), 20_000);
