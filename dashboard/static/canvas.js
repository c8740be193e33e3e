// The picture with its slots: drawn anew after each change; says what was pressed and dragged, and changes nothing itself.
import { draw } from "./dom.js";
import { bounds } from "./quads.js";
import { t } from "./words.js";

const svg = document.getElementById("canvas");
const FINGER = matchMedia("(pointer: coarse)");
let ground = null;
let dragging = null;

/** Return where a pointer is, in px of the picture. */
function place(event) {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  return [point.x, point.y];
}

const points = (quad) => quad.map((point) => point.join(",")).join(" ");

function drawPlace(slot, index, { picked, problems }, unit) {
  const wrong = problems.get(index) ?? [];
  const [left, top, right, bottom] = bounds([slot.quad]);
  const name = t("editor.slot.of", { id: slot.id, product: slot.product || t("editor.unassigned") });
  const group = draw("g", { class: `place${picked.has(index) ? " picked" : ""}${wrong.length ? " wrong" : ""}`, "data-index": index, tabindex: picked.has(index) || (!picked.size && index === 0) ? 0 : -1, role: "button", "aria-pressed": picked.has(index), "aria-label": [name, ...wrong].join("; ") });
  group.append(draw("polygon", { class: "edge", points: points(slot.quad), "vector-effect": "non-scaling-stroke" }), draw("polygon", { points: points(slot.quad) }));
  const size = Math.max(Math.min((right - left) / 3.2, (bottom - top) / 3, unit * 26), unit * 9);
  // Beside the button: what it is called says all of this, and in whole words.
  const words = draw("g", { "aria-hidden": "true" }, draw("text", { x: (left + right) / 2, y: (top + bottom) / 2, "font-size": size }, `${wrong.length ? "! " : ""}${slot.id}`));
  const product = slot.product.length > 14 ? `${slot.product.slice(0, 13)}…` : slot.product;
  // No wider than the slot; what would be too small to read is left out.
  const small = Math.min(size * 0.6, (right - left) / (product.length * 0.6));
  if (product && small >= unit * 7) words.append(draw("text", { x: (left + right) / 2, y: (top + bottom) / 2 + size, "font-size": small }, product));
  return [group, words];
}

function handles(quad, kind, held, unit) {
  return quad.map(([x, y], corner) =>
    draw("circle", { class: `handle${held === corner ? " held" : ""}`, cx: x, cy: y, r: unit * (FINGER.matches ? 13 : 8), tabindex: 0, role: "button", "data-kind": kind, "data-corner": corner, "aria-label": t(`editor.corner.${corner}`) }));
}

/** Draw everything; `view` has draft, picked, problems (texts by index), grid (or null), cells, held, picture. */
export function drawCanvas(view) {
  const { width, height } = view.draft;
  const unit = width / Math.max(svg.clientWidth, 300);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const held = document.activeElement?.closest?.("#canvas [data-index], #canvas [data-corner]")?.dataset;
  const again = held && (held.corner === undefined ? `[data-index="${held.index}"]` : `[data-kind="${held.kind}"][data-corner="${held.corner}"]`);
  // The picture stays as it is: a new element would flicker.
  if (!ground || ground.dataset.source !== view.picture) {
    ground = view.picture ? draw("image", { href: view.picture, preserveAspectRatio: "none" }) : draw("rect", { class: "ground" });
    ground.dataset.source = view.picture;
  }
  ground.setAttribute("width", width);
  ground.setAttribute("height", height);
  const parts = view.draft.slots.flatMap((slot, index) => drawPlace(slot, index, view, unit));
  const [only] = view.picked;
  const one = view.picked.size === 1 && !view.grid ? handles(view.draft.slots[only].quad, "slot", view.held, unit) : [];
  const cells = view.cells.map((cell) => draw("polygon", { class: "cell", points: points(cell.quad) }));
  const frame = view.grid ? handles(view.grid, "grid", view.held, unit) : [];
  if (svg.firstChild !== ground) svg.replaceChildren(ground);
  while (svg.lastChild !== ground) svg.lastChild.remove();
  svg.append(...parts, ...one, ...cells, ...frame);
  if (again) svg.querySelector(again)?.focus({ preventScroll: true });
}

/** Tell what happens on the picture: `press(index, more)`, `drag(what, x, y, dx, dy)`, `drop()`, `sweep(from, to)`. */
export function hear(told) {
  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const from = place(event);
    const handle = event.target.closest(".handle");
    const slot = event.target.closest(".place");
    if (handle) dragging = { kind: handle.dataset.kind, corner: Number(handle.dataset.corner) };
    else if (slot) {
      dragging = { kind: "place", index: Number(slot.dataset.index), more: event.shiftKey || event.ctrlKey || event.metaKey };
      told.press(dragging.index, dragging.more);
    } else dragging = { kind: "sweep" };
    Object.assign(dragging, { from, last: from, far: false });
    svg.setPointerCapture(event.pointerId);
    event.preventDefault();
    const again = handle ? `[data-kind="${dragging.kind}"][data-corner="${dragging.corner}"]` : slot ? `[data-index="${slot.dataset.index}"]` : null;
    if (again) svg.querySelector(again)?.focus({ preventScroll: true });
    else document.activeElement?.blur?.();
  });
  svg.addEventListener("pointermove", (event) => {
    if (!dragging) return;
    const now = place(event);
    const slack = (svg.viewBox.baseVal.width / svg.clientWidth) * 4;
    dragging.far ||= Math.hypot(now[0] - dragging.from[0], now[1] - dragging.from[1]) > slack;
    if (!dragging.far) return;
    if (dragging.kind === "sweep") told.sweep(dragging.from, now);
    else told.drag(dragging, now, [now[0] - dragging.last[0], now[1] - dragging.last[1]]);
    dragging.last = now;
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    svg.addEventListener(kind, () => {
      if (!dragging) return;
      const was = dragging;
      dragging = null;
      told.drop(was);
    });
  }
}
