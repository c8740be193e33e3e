// What stands beside the picture: what is picked, products, problems. Fields that somebody types in stay as they are.
import { make, swap } from "./dom.js";
import { t } from "./words.js";

const $ = (id) => document.getElementById(id);
let drawn = "";

/** Draw the side. */
export function drawSide(view, actions) {
  drawProblems(view, actions);
  drawSlot(view, actions);
  drawProducts(view, actions);
  if (document.activeElement !== $("shelf")) $("shelf").value = view.draft.shelf;
}

function drawProblems(view, actions) {
  const rows = view.all.map((problem) => {
    const one = view.draft[problem.list]?.[problem.index];
    const name = one ? `${problem.list === "slots" ? one.id : one.label || "–"}: ` : problem.field ? `${problem.field}: ` : "";
    const text = name + actions.worded(problem);
    if (problem.list !== "slots" || !one) return make("li", { class: "problem" }, text);
    const button = make("button", { type: "button", class: "link" }, text);
    button.addEventListener("click", () => {
      actions.pick([problem.index]);
      actions.focusPicked();
    });
    return make("li", {}, button);
  });
  swap($("problems"), ...rows);
  $("fine").textContent = rows.length ? t("editor.problems.n", { n: rows.length }) : `✓ ${t("editor.fine")}`;
  $("yaml").setAttribute("aria-disabled", String(rows.length > 0));
}

function same(values) {
  return new Set(values).size === 1 ? values[0] : null;
}

function drawSlot(view, actions) {
  const slots = actions.picked();
  $("slot").hidden = slots.length === 0;
  $("none").hidden = slots.length > 0;
  $("slot-title").textContent = slots.length > 1 ? t("editor.slots.n", { n: slots.length }) : t("editor.slot");
  if (!slots.length) return;
  $("slot-id").disabled = slots.length > 1;
  if (document.activeElement !== $("slot-id")) $("slot-id").value = slots.length > 1 ? slots.map((slot) => slot.id).join(" ") : slots[0].id;
  const chosen = same(slots.map((slot) => slot.product));
  const options = view.draft.products.map((product) => make("option", { value: product.label }, product.name ? `${product.name} (${product.label})` : product.label));
  const labels = view.draft.products.map((product) => product.label);
  if (chosen && !labels.includes(chosen)) options.push(make("option", { value: chosen }, chosen));
  $("slot-product").replaceChildren(make("option", { value: "" }, chosen === null ? t("editor.several") : t("editor.unassigned")), ...options);
  $("slot-product").value = chosen ?? "";
  drawCorners(slots, actions);
  const said = slots.length === 1 ? (view.problems.get([...view.picked][0]) ?? []) : [];
  swap($("slot-problems"), ...said.map((text) => make("li", { class: "problem" }, text)));
}

function drawCorners(slots, actions) {
  $("corners").hidden = slots.length > 1;
  if ($("corners").children.length === 1) {
    for (const corner of [0, 1, 2, 3]) {
      const field = (axis) => {
        const made = make("input", { type: "number", step: "1", id: `corner-${corner}-${axis}`, "aria-label": `${t(`editor.corner.${corner}`)} ${"xy"[axis]}` });
        made.addEventListener("change", () => {
          const place = [0, 1].map((one) => Number($(`corner-${corner}-${one}`).value) || 0);
          actions.change(() => actions.bend("slot", corner, ...place));
        });
        return made;
      };
      $("corners").append(make("div", {}, make("span", { "aria-hidden": "true" }, t(`editor.corner.${corner}`)), field(0), field(1)));
    }
  }
  slots[0].quad.forEach((point, corner) => point.forEach((value, axis) => {
    const field = $(`corner-${corner}-${axis}`);
    if (document.activeElement !== field || Number(field.value) !== value) field.value = value;
  }));
}

function drawProducts(view, actions) {
  const { products, slots } = view.draft;
  const said = view.all.filter((problem) => problem.list === "products");
  const now = JSON.stringify([products, slots.map((slot) => slot.product), said]);
  if (now === drawn) return;
  drawn = now;
  const held = document.activeElement?.id;
  $("products").replaceChildren(...products.map((_, index) => row(products, index, said.filter((one) => one.index === index), slots, actions)));
  if (held?.startsWith("product-")) $(held)?.focus();
}

function row(products, index, said, slots, actions) {
  const product = products[index];
  const field = (key, more = {}) => {
    const made = make("input", { id: `product-${index}-${key}`, value: product[key], "aria-label": `${t({ label: "editor.label", name: "editor.name", gtin: "editor.gtin", low_at: "editor.low-at" }[key])} ${index + 1}`, autocomplete: "off", ...more });
    made.addEventListener("change", () => actions.change(() => {
      const value = key === "low_at" ? Math.round(Number(made.value)) || 0 : made.value.trim();
      // Slots go along with a product that gets another label.
      if (key === "label") for (const slot of slots) if (slot.product && slot.product === product.label) slot.product = value;
      product[key] = value;
    }));
    const texts = said.filter((one) => one.field === key).map((one) => make("span", { class: "problem" }, one.text));
    if (texts.length) made.setAttribute("aria-invalid", "true");
    return make("td", {}, made, ...texts);
  };
  const remove = make("button", { type: "button", "aria-label": t("people.remove.of", { name: product.label }) }, t("people.remove"));
  remove.addEventListener("click", () => actions.change(() => {
    products.splice(products.indexOf(product), 1);
    for (const slot of slots) if (slot.product === product.label) slot.product = "";
  }));
  const facings = slots.filter((slot) => slot.product && slot.product === product.label).length;
  return make("tr", {}, field("label", { list: "known", maxlength: 128 }), field("name", { maxlength: 200 }), field("gtin", { inputmode: "numeric", maxlength: 20 }), field("low_at", { type: "number", min: 0 }), make("td", { class: "number" }, String(facings)), make("td", {}, remove));
}
