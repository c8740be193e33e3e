// A shelf to scale: each slot in a colour, with a shape of its own and a word, for whoever sees no colours.
import { draw } from "./dom.js";
import { t } from "./words.js";

export const STATES = ["present", "empty", "misplaced", "unknown", "unseen"];
const SIGNS = { present: "", empty: "○", misplaced: "⇄", unknown: "?", unseen: "·" };
const LINES = 3;

/** Return what is known of a slot, in words. */
export function condition(slot) {
  return STATES.includes(slot?.state) ? slot.state : "unseen";
}

/** Return a slot as one sentence: what belongs into it, where that is known, and what is there. */
export function sentence(name, slot, expected = "", there = slot?.label) {
  const state = condition(slot);
  const what = there && state !== "empty" ? ` (${there})` : "";
  const said = state === "empty" && expected ? t("slot.expected", { name: expected }) : `${t(`slot.${state}`)}${what}`;
  return `${name}: ${said}${slot?.stale ? `, ${t("slot.stale")}` : ""}`;
}

/** Return what a product is called on a shelf: its label, where it is none of the shelf's own. */
export const named = (state, label) => state.products.find((product) => product.label === label)?.name ?? label ?? "";

/** Return the name of the product that belongs into a slot; empty where the device does not say. */
export function expected(state, name) {
  const label = state.planogram.products?.[name];
  return label ? named(state, label) : "";
}

/** Return the patterns that the drawings are filled with. */
export function patterns() {
  const lines = draw("pattern", { id: "hatch", width: 14, height: 14, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  lines.append(draw("rect", { width: 14, height: 14, class: "under" }), draw("rect", { width: 6, height: 14, class: "over" }));
  const dots = draw("pattern", { id: "dots", width: 14, height: 14, patternUnits: "userSpaceOnUse" });
  dots.append(draw("rect", { width: 14, height: 14, class: "under" }), draw("circle", { cx: 7, cy: 7, r: 3, class: "over" }));
  return draw("svg", { class: "patterns", width: 0, height: 0, "aria-hidden": "true" }, draw("defs", {}, lines, dots));
}

// A unit stays beside its number: `1 l`.
const parted = (text) => text.split(/[-_]+| +(?!\p{L}{1,2}$)/u).filter(Boolean).slice(0, LINES);

function worded(state, there, wanted) {
  if (state === "empty") return [...parted(wanted), t("slot.empty")];
  if (state === "unknown") return [t("slot.unknown")];
  return state === "unseen" ? [] : parted(there);
}

function drawSlot(name, quad, slot, wanted, there) {
  const state = condition(slot);
  const [xs, ys] = [quad.map((point) => point[0]), quad.map((point) => point[1])];
  const [width, height] = [Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys)];
  const [x, y] = [xs.reduce((a, b) => a + b, 0) / 4, ys.reduce((a, b) => a + b, 0) / 4];
  const words = worded(state, there, wanted);
  const lines = [`${SIGNS[state]} ${name}`.trim(), ...words];
  const longest = Math.max(4, ...lines.map((line) => [...line].reduce((sum, sign) => sum + (sign > "⺀" ? 1.9 : 1), 0)));
  const size = Math.max(6, Math.min((width * 0.92) / (longest * 0.75), (height * 0.9) / (lines.length * 1.25), height / 5));
  const group = draw("g", { class: `slot ${state}${slot?.stale ? " stale" : ""}`, "data-slot": name });
  group.append(draw("title", {}, sentence(name, slot, wanted, there)), draw("polygon", { points: quad.map((point) => point.join(",")).join(" ") }));
  lines.forEach((line, number) => {
    const place = y + (number - (lines.length - 1) / 2) * size * 1.25;
    group.append(draw("text", { x, y: place, "font-size": size, class: number ? "what" : "id", dy: "0.35em" }, line));
  });
  return group;
}

/** Draw the slots of a snapshot into an SVG element. */
export function drawShelf(picture, state) {
  const { width, height, slots } = state.planogram;
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const empty = Object.keys(slots).filter((name) => condition(state.slots[name]) === "empty");
  picture.setAttribute("aria-label", t("shelf.picture", { shelf: state.shelf, n: Object.keys(slots).length, empty: empty.join(", ") || "0" }));
  picture.replaceChildren(...Object.entries(slots).map(([name, quad]) => drawSlot(name, quad, state.slots[name], expected(state, name), named(state, state.slots[name]?.label))));
}
