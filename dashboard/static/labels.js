// Labelling by keys: a picture, nine likely labels, and every step can be taken back.
import { make, swap } from "./dom.js";
import { post } from "./post.js";
import { has, since, t } from "./words.js";

const $ = (id) => document.getElementById(id);
const { here } = $("main").dataset;
const KEYS = 9;
let [items, labels, names, place] = [[], [], {}, 0];
let counts = {};
const past = [];

const item = () => items[place];

/** Return the likeliest labels for a picture: what the model said, what stood there, empty, and what is common. */
function choices() {
  const told = [item().label, item().confirmed, item().guess, item().second].filter((label) => label && label !== "unknown");
  // The order of common labels stays, so that fingers learn it.
  return [...new Set([...told.slice(0, 4), "empty", ...labels])].slice(0, KEYS);
}

function show() {
  const none = !items.length;
  $("desk").hidden = none;
  $("nothing").hidden = !none;
  swap($("counts"), ...["open", "labelled", "skipped"].map((state) => make("li", { class: "pill" }, t(`labels.n.${state}`, { n: counts[state] ?? 0 }))));
  $("undo").disabled = !past.length;
  $("export").hidden = !counts.labelled;
  if (none) return;
  const one = item();
  $("item-title").textContent = t("labels.of", { n: place + 1, of: items.length });
  $("picture").src = `${here}/pictures/${one.name}`;
  const [ahead] = items.slice(place + 1);
  if (ahead) new Image().src = `${here}/pictures/${ahead.name}`;
  $("choices").replaceChildren(...choices().map((label, number) => {
    const name = label === "empty" ? t("slot.empty") : names[label];
    const button = make("button", { type: "button", "aria-pressed": String(one.state === "labelled" && one.label === label), "aria-keyshortcuts": number + 1 }, make("kbd", { "aria-hidden": "true" }, String(number + 1)), make("span", {}, name && name !== label ? `${name} (${label})` : label));
    button.addEventListener("click", () => give(label, "labelled"));
    return make("li", {}, button);
  }));
  const reason = has(`labels.reason.${one.reason}`) ? t(`labels.reason.${one.reason}`) : one.reason;
  const percent = (text) => (text && Number.isFinite(Number(text)) ? ` ${Math.round(Number(text) * 100)} %` : "");
  const facts = [["labels.read-as", one.guess && one.guess + percent(one.confidence)], ["labels.second", one.second && one.second + percent(one.second_confidence)], ["labels.confirmed", one.confirmed], ["labels.why", reason], ["slots.slot", [one.device, one.slot].filter(Boolean).join(" · ")], ["labels.when", one.time && since(one.time)], ["fleet.model", [one.model, one.version].filter(Boolean).join(" ")]];
  swap($("told"), ...facts.filter(([, text]) => text).flatMap(([key, text]) => [make("dt", {}, t(key)), make("dd", {}, text)]));
  $("now").textContent = one.state === "labelled" ? `✓ ${one.label}` : one.state === "skipped" ? t("labels.skipped") : "";
}

async function load() {
  try {
    const answer = await fetch(`${here}/items?state=${$("which").value}`, { headers: { Accept: "application/json" } });
    if (answer.status === 401) location.reload();
    ({ items, labels, names, counts } = await answer.json());
  } catch {
    return tell("link.away", "bad");
  }
  place = 0;
  past.length = 0;
  $("all-labels").replaceChildren(...labels.map((label) => make("option", { value: label }, names[label] ?? "")));
  tell("labels.ready", "good");
  return show();
}

function tell(key, kind) {
  $("state").textContent = t(key);
  $("state").className = `pill ${kind}`;
}

function say(text, kind = "note") {
  $("said").textContent = text;
  $("said").className = kind;
  $("said").hidden = !text;
}

async function keep(one, label, state) {
  tell("editor.saving", "");
  const { ok, status, value } = await post(`${here}/items/${one.name}`, { label, state });
  if (!ok) {
    tell("labels.not-kept", "bad");
    say(value.error ?? t(status === 403 ? "problem.403" : "labels.not-kept"), "alarm");
    return false;
  }
  counts[one.state] -= 1;
  counts[state] += 1;
  Object.assign(one, { label: state === "labelled" ? label : "", state });
  tell("editor.saved.label", "good");
  return true;
}

let busy = false;

/** Give the picture a label or set it aside, and go on. */
async function give(label, state) {
  if (busy || !items.length) return;
  busy = true;
  const one = item();
  const was = { one, label: one.label, state: one.state, place };
  if (await keep(one, label, state)) {
    past.push(was);
    if (label && !labels.includes(label)) labels.push(label);
    say("");
    if (place + 1 < items.length) place += 1;
    else if (state !== "open" && $("which").value === "open" && items.every((item) => item.state !== "open")) {
      // They come some hundred at a time.
      if (counts.open) await load();
      else say(t("labels.all-done"));
    }
  }
  busy = false;
  show();
}

async function undo() {
  if (busy || !past.length) return;
  busy = true;
  const was = past.at(-1);
  if (await keep(was.one, was.label, was.state)) {
    past.pop();
    place = was.place;
    say("");
  }
  busy = false;
  show();
}

function go(step) {
  place = Math.max(0, Math.min(items.length - 1, place + step));
  show();
}

document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey || !items.length) {
    if (event.key === "Escape" && event.target === $("text")) $("text").blur();
    return;
  }
  const number = Number(event.key);
  if (number >= 1 && number <= KEYS) {
    const label = choices()[number - 1];
    if (label) give(label, "labelled");
  } else if (event.key === "ArrowRight") go(1);
  else if (event.key === "ArrowLeft") go(-1);
  else if (event.key === "u") undo();
  else if (event.key === "x") give("", "skipped");
  else if (event.key === "/") $("text").focus();
  else return;
  event.preventDefault();
});
$("before").addEventListener("click", () => go(-1));
$("next").addEventListener("click", () => go(1));
$("undo").addEventListener("click", undo);
$("skip").addEventListener("click", () => give("", "skipped"));
$("which").addEventListener("change", load);
$("other").addEventListener("submit", (event) => {
  event.preventDefault();
  const label = $("text").value.trim();
  if (!label) return;
  $("text").value = "";
  $("text").blur();
  give(label, "labelled");
});
$("archive").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (!file) return;
  say(t("labels.importing"));
  const { ok, status, value } = await post(`${here}/import`, file);
  event.target.value = "";
  if (!ok) return say(value.error ?? t(status === 413 ? "problem.413" : "labels.not-kept"), "alarm");
  say(t("labels.imported", value));
  swap($("refused"), ...value.refused.map((text) => make("li", {}, text)));
  return load();
});
load();
