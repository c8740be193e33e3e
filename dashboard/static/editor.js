// The planogram editor: the draft, what is picked in it, undo, and the server's word on each change.
import { drawCanvas, hear } from "./canvas.js";
import { drawSide } from "./editor-side.js";
import { post } from "./post.js";
import { bent, bounds, freeRow, grid, moved, parted } from "./quads.js";
import { t } from "./words.js";

const $ = (id) => document.getElementById(id);
const { here } = $("main").dataset;
const shown = JSON.parse($("shown").textContent);
const PAUSE_MS = 250;
const MOST_UNDO = 200;

const view = { draft: shown.draft, picked: new Set(), problems: new Map(), all: [], grid: null, cells: [], held: null, picture: "", sent: false };
let [past, future] = [[], []];
let before = null;
let timer = null;
let unsaved = false;
let last = Promise.resolve();

const content = () => JSON.stringify({ shelf: view.draft.shelf, products: view.draft.products, slots: view.draft.slots });
const copy = (value) => JSON.parse(JSON.stringify(value));

/** Draw what is seen; nothing is kept. */
export function show() {
  view.problems = new Map();
  for (const problem of view.all) {
    if (problem.list === "slots") view.problems.set(problem.index, [...(view.problems.get(problem.index) ?? []), worded(problem)]);
  }
  const rows = [Number($("grid-rows").value) || 1, Number($("grid-columns").value) || 1];
  view.cells = view.grid ? grid(view.grid, Math.min(rows[0], 30), Math.min(rows[1], 60), (Number($("grid-gap").value) || 0) / 100) : [];
  drawCanvas(view);
  drawSide(view, actions);
  $("undo").disabled = !past.length;
  $("redo").disabled = !future.length;
  for (const id of ["copy-row", "remove"]) $(id).disabled = !view.picked.size;
}

/** Return a problem in the reader's words, where the page has some for it. */
export function worded(problem) {
  const one = view.draft[problem.list]?.[problem.index];
  if (problem.list === "slots" && problem.field === "product" && one && !one.product) return t("editor.problem.unassigned");
  if (problem.field === "reference") return t("editor.problem.picture");
  return problem.text;
}

/** Begin a change that may be undone as one. */
function begin() {
  before ??= content();
}

/** End it: remember how it was, and let the server look at it soon. */
function end() {
  if (before !== null && before !== content()) {
    past = [...past.slice(-MOST_UNDO), before];
    future = [];
    $("said").hidden = true;
    soon();
  }
  before = null;
  show();
}

function change(act) {
  begin();
  act();
  end();
}

/** Let the server do one thing after the other: each is of the revision that the one before has left. */
function queued(act) {
  last = last.then(act);
  return last;
}

// Not put off by the next change: who draws without a pause would have nothing kept.
function soon() {
  unsaved = true;
  tell("editor.saving", "");
  timer ??= setTimeout(() => queued(save), PAUSE_MS);
}

async function save() {
  clearTimeout(timer);
  timer = null;
  const asked = content();
  const { ok, status, value } = await post(here, { ...JSON.parse(asked), revision: view.draft.revision });
  if (!ok) return failed(status);
  view.draft.revision = value.revision;
  if (asked !== content()) return true;
  unsaved = false;
  view.all = value.problems;
  tell("editor.saved", "good");
  show();
  return true;
}

function failed(status) {
  tell({ 409: "editor.conflict", 403: "problem.403", 0: "link.away" }[status] ?? "editor.not-saved", "bad");
  return false;
}

function tell(key, kind) {
  if ($("saved").textContent !== t(key)) $("saved").textContent = t(key);
  $("saved").className = `pill ${kind}`;
}

function say(text, kind = "note") {
  $("said").textContent = text;
  $("said").className = kind;
  $("said").hidden = false;
}

function turn(from, to) {
  if (!from.length) return;
  to.push(content());
  Object.assign(view.draft, JSON.parse(from.pop()));
  view.picked = new Set([...view.picked].filter((index) => index < view.draft.slots.length));
  soon();
  show();
}

const picked = () => [...view.picked].sort((a, b) => a - b).map((index) => view.draft.slots[index]);

function shift(dx, dy) {
  const { width, height } = view.draft;
  if (view.grid && view.held === null && !view.picked.size) [view.grid] = moved([view.grid], dx, dy, width, height);
  else moved(picked().map((slot) => slot.quad), dx, dy, width, height).forEach((quad, n) => { picked()[n].quad = quad; });
}

function pick(indices) {
  view.picked = new Set(indices);
  view.held = null;
  show();
}

function bend(kind, corner, x, y) {
  const { width, height } = view.draft;
  if (kind === "grid") view.grid = bent(view.grid, corner, x, y, width, height);
  else picked()[0].quad = bent(picked()[0].quad, corner, x, y, width, height);
}

function removePicked() {
  change(() => {
    view.draft.slots = view.draft.slots.filter((_, index) => !view.picked.has(index));
    view.picked = new Set();
  });
}

/** Copy the rows of what is picked, below; the copies are picked then, to be moved on. */
function copyRows() {
  change(() => {
    const rows = [...new Set(picked().map((slot) => parted(slot.id)[0]))];
    const slots = view.draft.slots.filter((slot) => rows.includes(parted(slot.id)[0]));
    const [, top, , bottom] = bounds(slots.map((slot) => slot.quad));
    const names = new Map();
    const taken = view.draft.slots.map((slot) => slot.id);
    for (const row of rows) {
      names.set(row, freeRow([...taken, ...[...names.values()].map((name) => `${name}1`)], row));
    }
    const quads = moved(slots.map((slot) => slot.quad), 0, (bottom - top) * 1.04, view.draft.width, view.draft.height);
    const first = view.draft.slots.length;
    slots.forEach((slot, n) => {
      const [row, number] = parted(slot.id);
      view.draft.slots.push({ ...copy(slot), id: `${names.get(row)}${number || ""}`, quad: quads[n] });
    });
    view.picked = new Set(slots.map((_, n) => first + n));
  });
  focusPicked();
}

function focusPicked() {
  const [first] = view.picked;
  document.querySelector(`#canvas [data-index="${first}"]`)?.focus({ preventScroll: true });
}

function openGrid(quad) {
  const { width, height, slots } = view.draft;
  view.grid = quad ?? [[0.1, 0.1], [0.9, 0.1], [0.9, 0.3], [0.1, 0.3]].map(([x, y]) => [Math.round(x * width), Math.round(y * height)]);
  view.picked = new Set();
  if ($("grid").hidden) $("grid-row").value = freeRow(slots.map((slot) => slot.id));
  $("grid").hidden = false;
  $("grid-open").setAttribute("aria-expanded", "true");
  show();
}

function closeGrid() {
  view.grid = null;
  $("grid").hidden = true;
  $("grid-open").setAttribute("aria-expanded", "false");
  show();
}

$("grid").addEventListener("submit", (event) => {
  event.preventDefault();
  const rows = Number($("grid-rows").value);
  change(() => {
    const names = [$("grid-row").value];
    const taken = view.draft.slots.map((slot) => slot.id);
    while (names.length < rows) names.push(freeRow([...taken, ...names.map((name) => `${name}1`)], names.at(-1)));
    const first = view.draft.slots.length;
    view.draft.slots.push(...view.cells.map((cell) => ({ id: `${names[cell.row]}${cell.column + 1}`, quad: cell.quad, product: "" })));
    view.picked = new Set(view.cells.map((_, n) => first + n));
  });
  closeGrid();
  focusPicked();
});
$("grid").addEventListener("input", show);
$("grid-open").addEventListener("click", () => (view.grid ? closeGrid() : (openGrid(), $("grid-row").focus(), $("grid-row").select())));
$("grid-close").addEventListener("click", () => (closeGrid(), $("grid-open").focus()));
$("copy-row").addEventListener("click", copyRows);
$("remove").addEventListener("click", removePicked);
$("undo").addEventListener("click", () => turn(past, future));
$("redo").addEventListener("click", () => turn(future, past));
$("zoom").addEventListener("input", () => {
  $("canvas").style.width = `${$("zoom").value}%`;
  show();
});

hear({
  press(index, more) {
    if (more) pick(view.picked.has(index) ? [...view.picked].filter((one) => one !== index) : [...view.picked, index]);
    else if (!view.picked.has(index)) pick([index]);
  },
  drag(what, [x, y], [dx, dy]) {
    begin();
    if (what.kind === "place") shift(dx, dy);
    else bend(what.kind, what.corner, x, y);
    show();
  },
  sweep([x0, y0], [x1, y1]) {
    const { width, height } = view.draft;
    const [left, right, top, bottom] = [Math.min(x0, x1), Math.max(x0, x1), Math.min(y0, y1), Math.max(y0, y1)];
    const quad = [[left, top], [right, top], [right, bottom], [left, bottom]].map(([x, y]) => [Math.round(Math.max(0, Math.min(x, width))), Math.round(Math.max(0, Math.min(y, height)))]);
    if (right - left > 8 && bottom - top > 8) openGrid(quad);
  },
  drop(what) {
    if (what.kind === "sweep" && !what.far) pick([]);
    // Several are dragged together; a mere click means the one.
    if (what.kind === "place" && !what.far && !what.more) pick([what.index]);
    end();
  },
});

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

$("canvas").addEventListener("keydown", (event) => {
  const handle = event.target.closest(".handle");
  const slot = event.target.closest(".place");
  const step = ARROWS[event.key];
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (step) {
    const [dx, dy] = step.map((value) => value * (event.shiftKey ? 10 : 1));
    if (slot && !view.picked.has(Number(slot.dataset.index))) pick([Number(slot.dataset.index)]);
    change(() => {
      if (!handle) return shift(dx, dy);
      const corner = Number(handle.dataset.corner);
      const [x, y] = (handle.dataset.kind === "grid" ? view.grid : picked()[0].quad)[corner];
      return bend(handle.dataset.kind, corner, x + dx, y + dy);
    });
  } else if (slot && (event.key === "Enter" || event.key === " ")) {
    const index = Number(slot.dataset.index);
    pick(event.shiftKey ? [...view.picked, index] : [index]);
  } else if (slot && (event.key === "n" || event.key === "p")) {
    const count = view.draft.slots.length;
    pick([(Number(slot.dataset.index) + (event.key === "n" ? 1 : count - 1)) % count]);
    focusPicked();
  } else if (slot && event.key === "a") pick(view.draft.slots.map((one, index) => (parted(one.id)[0] === parted(view.draft.slots[slot.dataset.index].id)[0] ? index : -1)).filter((index) => index >= 0));
  else if (slot && event.key === "c") copyRows();
  else if (slot && event.key === "g") $("scan-gtin").focus();
  else if (slot && (event.key === "Delete" || event.key === "Backspace")) removePicked();
  else return;
  event.preventDefault();
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea");
  if (event.key === "Escape" && view.grid) closeGrid();
  if (typing || !(event.ctrlKey || event.metaKey)) return;
  if (event.key === "z" && !event.shiftKey) turn(past, future);
  else if (event.key === "y" || event.key.toLowerCase() === "z") turn(future, past);
  else return;
  event.preventDefault();
});

const actions = { change, pick, picked, bend, worded, focusPicked };

/** Give the product of a GTIN to what is picked; one that is new here is added. */
async function scanned(event) {
  event.preventDefault();
  const { ok, value } = await post(`${here}/product`, { gtin: $("scan-gtin").value });
  const right = ok && !value.error;
  $("scan-said").className = right ? "quiet" : "problem";
  if (!right) {
    $("scan-said").textContent = value.error ?? t("link.away");
    return;
  }
  let product = view.draft.products.find((one) => one.gtin && one.gtin.padStart(14, "0") === value.gtin);
  const isNew = !product;
  change(() => {
    if (isNew) {
      product = view.draft.products.find((one) => one.label === value.label && !one.gtin);
      if (product) product.gtin = value.gtin;
      else view.draft.products.push((product = { label: value.label ?? `gtin-${value.gtin}`, name: value.name ?? "", gtin: value.gtin, low_at: 0 }));
    }
    for (const slot of picked()) slot.product = product.label;
  });
  $("scan-said").textContent = t(isNew && !value.label ? "editor.scan.new" : "editor.scan.done", { label: product.label });
  $("scan-gtin").value = "";
}
$("scan").addEventListener("submit", scanned);

/** Send what the server makes a new draft of: not where it knows one that this page has not seen. */
async function given(leaf, body, take) {
  const kept = queued(save);
  const taken = queued(async () => {
    if (!(await kept)) return false;
    const { ok, status, value } = await post(`${here}/${leaf}?revision=${view.draft.revision}`, body);
    if (status === 409) return failed(status);
    if (ok) take(value);
    else say(value.error ?? t(status === 413 ? "problem.413" : "editor.not-saved"), "alarm");
    return ok;
  });
  if (await taken) await queued(save);
}

function pictured(leaf, body) {
  say(t("editor.picture.coming"));
  return given(leaf, body, (value) => {
    Object.assign(view.draft, value);
    $("said").hidden = true;
    look();
  });
}

/** Show the picture that is kept. */
function look() {
  view.picture = view.draft.picture ? `${here}/reference.jpg?${view.draft.revision}` : "";
  $("jpeg").hidden = !view.draft.picture;
  show();
}

$("picture-file").addEventListener("change", (event) => event.target.files[0] && pictured("picture", event.target.files[0]));
$("snapshot")?.addEventListener("click", () => pictured("snapshot", {}));
$("yaml-file").addEventListener("change", (event) => event.target.files[0] && given("open", event.target.files[0], (value) => {
  past.push(content());
  Object.assign(view.draft, value);
  view.picked = new Set();
  show();
}));
$("discard").addEventListener("click", async () => {
  if (!confirm(t("editor.discard.sure"))) return;
  await queued(async () => {
    clearTimeout(timer);
    unsaved = false;
    if ((await post(`${here}/discard`)).ok) location.reload();
  });
});
$("slot-id").addEventListener("change", () => change(() => { picked()[0].id = $("slot-id").value.trim(); }));
$("slot-product").addEventListener("change", () => change(() => { for (const slot of picked()) slot.product = $("slot-product").value; }));
$("add-product").addEventListener("click", () => {
  change(() => view.draft.products.push({ label: "", name: "", gtin: "", low_at: 0 }));
  $(`product-${view.draft.products.length - 1}-label`).focus();
});
$("shelf").addEventListener("change", () => change(() => { view.draft.shelf = $("shelf").value.trim(); }));
$("send").addEventListener("click", async () => {
  $("send").disabled = true;
  queued(save);
  say(t("editor.sending"));
  const { ok, value } = await queued(async () => {
    const answer = await post(`${here}/send`, { revision: view.draft.revision });
    view.draft.revision = answer.value.revision ?? view.draft.revision;
    return answer;
  });
  $("send").disabled = false;
  if (ok && value.ok) return say(`✓ ${t("editor.sent", { sha: value.planogram.slice(0, 12) })}`);
  if (value.problems?.length) view.all = value.problems;
  show();
  return say(`✕ ${t("editor.refused")} ${value.error ?? ""}`, "alarm");
});

globalThis.addEventListener("resize", show);
// The browser asks whether to leave, while the server has not everything; the change is on its way meanwhile.
globalThis.addEventListener("beforeunload", (event) => {
  if (!unsaved) return;
  if (timer) queued(save);
  event.preventDefault();
});
look();
queued(save);
if (shown.draft.base && shown.in_use && shown.draft.base !== shown.in_use) say(t("editor.changed-since"), "alarm");
