// The live page: what the stream says is drawn, nothing is asked for twice.
const SVG = "http://www.w3.org/2000/svg";
const KEPT = 200;
const $ = (id) => document.getElementById(id);

let devices = [];
let chosen = null;
let count = 0;

const key = (device) => `${device.store}/${device.device}`;
const clock = (text) => (text ? new Date(text).toLocaleTimeString([], { hour12: false }) : "");

function element(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function drawn(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.textContent = text;
  return made;
}

function drawDevices() {
  $("devices").replaceChildren(
    ...devices.map((device) => {
      const button = element("button", `${device.store} · ${device.device}`);
      button.setAttribute("aria-pressed", String(key(device) === chosen));
      button.addEventListener("click", () => {
        chosen = key(device);
        draw();
      });
      return button;
    }),
  );
}

function pill(text, kind = "") {
  return element("span", text, `pill ${kind}`);
}

function drawHealth(health) {
  const pills = [];
  if (health) {
    pills.push(pill(health.status, health.status === "online" ? "good" : "bad"));
    if (health.inference_ms != null) pills.push(pill(`frame ${health.inference_ms} ms`));
    if (health.outbox_depth) pills.push(pill(`${health.outbox_depth} waiting`));
    if (health.dropped_events) pills.push(pill(`${health.dropped_events} dropped`, "bad"));
  }
  $("health").replaceChildren(...pills);
}

function drawSlots(state) {
  const { width, height, slots } = state.planogram;
  const picture = $("picture");
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  picture.replaceChildren(
    ...Object.entries(slots).map(([id, quad]) => {
      const known = state.slots[id] ?? {};
      const condition = known.state ?? "unseen";
      const group = drawn("g", { class: `slot ${condition}${known.stale ? " stale" : ""}`, "data-slot": id });
      group.append(drawn("title", {}, `${id}: ${condition}${known.label ? `, ${known.label}` : ""}${known.stale ? ", stale" : ""}`));
      group.append(drawn("polygon", { points: quad.map((point) => point.join(",")).join(" ") }));
      const x = quad.reduce((sum, point) => sum + point[0], 0) / 4;
      const y = quad.reduce((sum, point) => sum + point[1], 0) / 4;
      group.append(drawn("text", { x, y: y - 16, class: "id" }, id));
      const words = condition === "present" || condition === "misplaced" ? (known.label ?? "").split(/[-_ ]/) : [condition === "unseen" ? "" : condition];
      words.slice(0, 3).forEach((word, line) => group.append(drawn("text", { x, y: y + 8 + 24 * line, class: "what" }, word)));
      return group;
    }),
  );
}

function drawProducts(products) {
  $("products").replaceChildren(
    ...products.map((product) => {
      const row = element("tr");
      row.dataset.product = product.label;
      const name = element("td", product.name);
      if (product.gtin) name.append(element("div", product.gtin, "quiet"));
      const level = element("td");
      level.append(element("span", "■".repeat(product.filled) + "□".repeat(Math.max(product.facings - product.filled, 0)), "facings"));
      level.append(element("div", `${product.filled} of ${product.facings}, ${product.state}`, `level ${product.state}`));
      row.append(name, level, element("td", clock(product.since), "quiet"));
      return row;
    }),
  );
}

function draw() {
  if (!devices.some((device) => key(device) === chosen)) chosen = devices.length ? key(devices[0]) : null;
  drawDevices();
  const device = devices.find((item) => key(item) === chosen);
  if (!device) return;
  drawHealth(device.health);
  const state = device.state;
  $("name").textContent = state ? `Store ${device.store}, shelf ${state.shelf}` : `Store ${device.store}, ${device.device}`;
  if (!state) return;
  drawSlots(state);
  drawProducts(state.products);
  const faults = state.camera.faults ?? [];
  $("faults").hidden = faults.length === 0;
  $("faults").textContent = faults.length ? `Camera: ${faults.join(", ")}. Slots show what was last seen.` : "";
}

function say(event) {
  const data = event.data;
  if (data.fault) return data.fault;
  if (data.facings) return `${data.product.name}: ${data.filled} of ${data.facings} on the shelf`;
  if (data.slot) {
    const what = data.state === "misplaced" ? `misplaced ${data.label} (belongs: ${data.product.label})` : data.state === "present" ? data.label : data.state;
    return `slot ${data.slot}: ${what}`;
  }
  return data.model ? `agent ${data.agent}, model ${data.model.name} ${data.model.version}` : event.subject;
}

function log({ event }) {
  const kind = event.type.split(".")[2];
  const row = element("li", "", kind);
  const time = element("time", clock(event.time));
  time.dateTime = event.time;
  row.append(time, element("b", kind), element("span", say(event)), element("span", String(Number(event.sequence)), "seq"));
  const list = $("events");
  list.prepend(row);
  while (list.children.length > KEPT) list.lastChild.remove();
  count += 1;
  $("count").textContent = `${count}, the newest first`;
}

function tell(text, kind) {
  $("link").textContent = text;
  $("link").className = `pill ${kind}`;
}

const stream = new EventSource("/api/stream");
stream.addEventListener("state", (message) => {
  const news = JSON.parse(message.data);
  devices = news.devices;
  tell(news.broker ? "live" : "broker away", news.broker ? "good" : "bad");
  draw();
});
stream.addEventListener("event", (message) => log(JSON.parse(message.data)));
stream.addEventListener("error", () => tell("recorder away", "bad"));
