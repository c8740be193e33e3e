// The preview's page: asks for what is new, shows the picture that belongs to it, remembers the sharpest.
const SVG = "http://www.w3.org/2000/svg";
const RETRY_MS = 1000;
const $ = (id) => document.getElementById(id);
const percent = (share) => (share == null ? "–" : `${Math.round(100 * share)} %`);

let number = 0;
let best = 0;
let bestOfReference = null;

function drawn(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.textContent = text;
  return made;
}

function element(name, text, kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function listed(id, items) {
  const key = JSON.stringify(items.map((item) => item.textContent));
  if ($(id).dataset.shown === key) return; // a screen reader must not hear the same again and again
  $(id).dataset.shown = key;
  $(id).replaceChildren(...items);
  $(id).hidden = items.length === 0;
}

function drawSlots(told) {
  const [width, height] = told.size;
  const overlay = $("overlay");
  overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
  overlay.classList.toggle("lost", told.place?.view !== "aligned");
  overlay.replaceChildren(
    ...told.slots.map((slot) => {
      const points = slot.quad.map((point) => point.join(",")).join(" ");
      const group = drawn("g", { class: slot.state ?? "unseen", "data-slot": slot.id });
      const xs = slot.quad.map((point) => point[0]);
      const x = (Math.min(...xs) + Math.max(...xs)) / 2;
      const y = slot.quad.reduce((sum, point) => sum + point[1], 0) / 4;
      const letters = Math.max(slot.id.length, (slot.label ?? "").length, 5);
      const size = Math.min(width / 45, (Math.max(...xs) - Math.min(...xs)) / (0.62 * letters));
      const at = (line) => ({ x, y: y + line * size * 1.2, "font-size": size, "stroke-width": size / 5, "text-anchor": "middle" });
      group.append(
        drawn("polygon", { points, class: "shade" }),
        drawn("polygon", { points, class: "edge" }),
        drawn("text", at(-1), slot.id),
        drawn("text", at(0), slot.label ?? ""),
        drawn("text", at(1), slot.confidence == null ? "" : percent(slot.confidence)),
      );
      return group;
    }),
  );
}

function row(slot) {
  const made = element("tr", "");
  made.dataset.slot = slot.id;
  const seen = slot.state === "unknown" ? `unsure (${slot.label})` : (slot.label ?? "–");
  made.append(
    element("td", slot.id),
    element("td", slot.product),
    element("td", seen, slot.state ?? ""),
    element("td", percent(slot.confidence)),
    element("td", percent(slot.of_reference)),
  );
  return made;
}

function drawSharpness(told) {
  if (told.sharpness > best) {
    best = told.sharpness;
    bestOfReference = told.of_reference;
  }
  const known = told.of_reference != null;
  $("sharpness").textContent = known ? `${percent(told.of_reference)} of the reference` : told.sharpness.toFixed(1);
  const share = best ? told.sharpness / best : 0;
  $("best").textContent = `best ${known ? percent(bestOfReference) : best.toFixed(1)}; now ${percent(share)} of that`;
  $("sharpbar").setAttribute("width", String(90 * share));
  $("sharppeak").setAttribute("x", "90");
}

function drawLight(light) {
  $("light").textContent = percent(light.mean);
  $("clipped").textContent = `${percent(light.under)} black, ${percent(light.over)} white`;
  $("lightbar").setAttribute("width", String(100 * light.mean));
}

function drawPlace(place) {
  $("place").textContent = place ? place.view : "no reference picture";
  $("place").className = place ? (place.view === "aligned" ? "good" : "bad") : "";
  $("moved").textContent = place?.px == null ? "" : `${place.px} px from its place`;
  $("where").textContent = place?.text ?? "";
}

function say(text, kind) {
  if ($("live").textContent !== text) $("live").textContent = text;
  $("live").className = kind;
}

function draw(told) {
  drawSharpness(told);
  drawLight(told.light);
  drawPlace(told.place);
  drawSlots(told);
  $("size").textContent = `${told.size[0]} × ${told.size[1]} px`;
  $("rows").replaceChildren(...told.slots.map(row));
  $("slots").hidden = told.slots.length === 0;
  listed("faults", told.faults.map(([fault, advice]) => {
    const item = element("li", "");
    item.append(element("b", fault), ` ${advice}`);
    return item;
  }));
}

function drawLeft(seconds) {
  $("left").hidden = seconds == null;
  if (seconds != null) $("left").textContent = seconds > 60 ? `${Math.ceil(seconds / 60)} minutes left` : `${seconds} s left`;
}

function shown(source) {
  return new Promise((resolve, reject) => {
    const picture = $("picture");
    picture.onload = resolve;
    picture.onerror = () => reject(new Error("no picture"));
    picture.src = source;
  });
}

async function step() {
  const answer = await fetch(`/status.json?number=${number}`);
  if (answer.status === 401) return false;
  if (!answer.ok) throw new Error(answer.statusText);
  const told = await answer.json();
  listed("problems", told.problems.map((problem) => element("li", problem)));
  drawLeft(told.left_s);
  if (told.number && told.number !== number) {
    await shown(`/frame.jpg?number=${told.number}`);
    number = told.number;
    draw(told);
  }
  if (told.error) say(told.error, "bad");
  else if (told.number) say("live", "good");
  return true;
}

async function run() {
  for (;;) {
    try {
      if (!(await step())) {
        say("The preview has ended.", "bad");
        return;
      }
    } catch {
      say("No connection to the preview.", "bad");
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

$("forget").addEventListener("click", () => {
  best = 0;
  bestOfReference = null;
});
$("outlines").addEventListener("click", () => {
  const on = $("outlines").getAttribute("aria-pressed") !== "true";
  $("outlines").setAttribute("aria-pressed", String(on));
  $("overlay").toggleAttribute("hidden", !on);
});
run();
