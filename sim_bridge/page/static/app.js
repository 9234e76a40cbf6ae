// The live page: wires the stream to panels, controls and measurements.

import { Measures, short } from "./measures.js";
import { Labels, decode, draw, taxonomyOf } from "./pictures.js";
import { Stream } from "./stream.js";
import { StyleControls } from "./style.js";

const byId = (id) => document.getElementById(id);
const figures = new Map([...document.querySelectorAll("figure[data-panel]")].map((figure) => [figure.dataset.panel, figure]));
const labels = new Labels(figures.get("labels").querySelector("canvas"));
const measures = new Measures();
const page = { camera: null, hello: null, status: null, connected: false, drawn: 0, drawnAt: null, legendAt: -Infinity, pointer: null, session: null, sessionAt: 0, problem: "", problemTimer: 0 };

const LEGEND_MS = 300; // faster than that, shares of classes cannot be read
const NEWS_AFTER_MS = 15_000;
const PROBLEM_MS = 8000; // long enough to be read; status messages come every second

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
const wiping = () => chosen("view") === "wipe";
const edgeKind = () => chosen("edges");

// What is asked for

function watch() {
  if (!page.camera) return;
  const panels = document.hidden ? [] : wiping() ? ["cg", "photoreal"] : ["cg", "photoreal", "labels", edgeKind()];
  stream.send({ op: "watch", camera: page.camera, panels });
}

/** Sends what the user asks for; what went wrong before is no longer of interest. */
function ask(order) {
  tellProblem("");
  stream.send(order);
}

const style = new StyleControls((wanted) => ask({ op: "style", camera: page.camera, style: wanted }));
const toggleRun = () => ask({ op: page.status?.state === "paused" ? "resume" : "pause" });
const save = (panel) => ask({ op: "still", panel: panel === "edges" ? edgeKind() : panel });

// What comes

const stream = new Stream({
  open() {
    page.connected = true;
  },
  close() {
    page.connected = false;
    tellProblem("");
  },
  message(message) {
    if (message.type === "hello") greet(message);
    else if (message.type === "status" && message.camera === page.camera) takeStatus(message);
    else if (message.type === "error") tellProblem(message.text);
  },
  still: saveFile,
  tick: showTick,
});

function greet(hello) {
  page.hello = hello;
  measures.greet(hello);
  if (!hello.cameras.includes(page.camera)) lookAt(hello.cameras[0]);
  page.sequence = null;
  fill(byId("camera"), hello.cameras, page.camera);
  byId("camera-field").hidden = hello.cameras.length < 2;
  fill(byId("bundle"), hello.bundles, byId("bundle").value);
  byId("where").textContent = `sim-bridge ${hello.version}: ${hello.input} in, ${hello.output} out.`;
  watch();
}

/** Looks at a camera; nothing of the one before is kept. */
function lookAt(camera) {
  page.camera = camera;
  page.status = page.sequence = page.session = null;
  measures.clear();
}

function fill(select, values, current) {
  select.replaceChildren(...values.map((value) => new Option(value, value, false, value === current)));
}

async function showTick(parts, mayDraw) {
  const first = parts.values().next().value.header;
  const [taxonomy, ...bitmaps] = await Promise.all([
    first.taxonomy ? taxonomyOf(first.taxonomy) : null,
    ...[...parts.values()].map(({ payload }) => decode(payload)),
  ]);
  await nextPaint();
  if (first.camera !== page.camera) return; // another camera was chosen while this was on its way
  if (!mayDraw()) return; // two are decoded at a time, and the older one may be ready last
  [...parts.values()].forEach(({ header }, i) => showPanel(header, bitmaps[i], taxonomy));
  noteSession(first.session);
  showFacts(first);
  style.showUsed(first.used);
  if (parts.has("labels") && performance.now() - page.legendAt > LEGEND_MS) showLegend();
  page.drawn += 1;
  document.body.dataset.frame = String(first.frame);
}

/** The next moment to draw; in a hidden tab there is none, so at once. */
const nextPaint = () => (document.hidden ? Promise.resolve() : new Promise((resolve) => requestAnimationFrame(resolve)));

function showPanel(header, bitmap, taxonomy) {
  const wipe = byId("wipe");
  if (wiping() && !byId(`wipe-${header.kind}`)) return; // asked for before the wipe was chosen
  const figure = wiping() ? wipe : figures.get(["laplacian", "dned"].includes(header.kind) ? "edges" : header.kind);
  figure.classList.toggle("filled", bitmap !== null);
  if (bitmap === null) {
    figure.querySelector(".empty").textContent = header.error ?? "This network has no such map";
    return;
  }
  const { width, height } = bitmap;
  const map = { dned: "DNED, ", laplacian: "Laplacian, " }[header.kind] ?? "";
  figure.querySelector(".size").textContent = `${map}${width}×${height}`;
  figure.querySelector(".picture").style.setProperty("--aspect", `${width} / ${height}`);
  if (figure === wipe) draw(byId(`wipe-${header.kind}`), bitmap);
  else if (header.kind === "labels") labels.draw(bitmap, taxonomy);
  else draw(figure.querySelector("canvas"), bitmap);
  bitmap.close();
}

/** A simulator that was started again may be back before anybody notices that it was gone; one that begins again all the time, as a loop does, is no news. */
function noteSession(session) {
  const now = performance.now();
  if (session === page.session) return;
  if (page.session !== null && now - page.sessionAt > NEWS_AFTER_MS) tellProblem(`A new session began: ${session} follows ${page.session}.`);
  page.session = session;
  page.sessionAt = now;
}

function showFacts(header) {
  byId("frame").value = String(header.frame);
  const facts = {
    Camera: header.camera,
    Session: header.session,
    "Simulator time": `${header.time.toFixed(2)} s`,
    Bundle: header.bundle,
    Model: header.model,
    Seed: Object.values(header.style).some(Array.isArray) ? `${header.seed}, weights by hand` : String(header.seed),
    Status: header.status,
    Taxonomy: header.taxonomy,
    "Sent to published": `${((header.published - header.sent) / 1e6).toFixed(0)} ms`,
  };
  const rows = Object.entries(facts).flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const fact = document.createElement("dd");
    term.textContent = name;
    fact.textContent = fact.title = value;
    fact.dataset.fact = name;
    return [term, fact];
  });
  byId("facts").replaceChildren(...rows);
}

function takeStatus(status) {
  page.status = status;
  style.follow(status.controls, status.style);
  showBundle(status.bundle);
  tellState();
  if (!status.counters) return;
  if (status.sequence === page.sequence) return; // a control was changed; the figures are the same
  page.sequence = status.sequence;
  const [rgb, semantic, photoreal] = ["rgb", "semantic", "photoreal"].map((kind) => `${page.camera}/${kind}`);
  const published = status.rates[photoreal];
  const rates = { in: status.rates[rgb], out: published, page: drawnPerSecond() };
  measures.take(status.at, [status.counters[rgb], status.counters[semantic]], rates, status.latency_ms);
  const endToEnd = status.latency_ms.end_to_end;
  byId("rate").value = short(published);
  byId("delay").value = endToEnd ? short(endToEnd.p50) : "–";
}

/** How fast this page has drawn since it was last asked. */
function drawnPerSecond() {
  const now = performance.now();
  const rate = page.drawnAt === null ? undefined : (1000 * page.drawn) / Math.max(1, now - page.drawnAt);
  page.drawn = 0;
  page.drawnAt = now;
  return rate;
}

function showBundle(bundle) {
  const select = byId("bundle");
  const note = byId("bundle-note");
  if (document.activeElement !== select || bundle.error) select.value = bundle.loading ?? bundle.name;
  note.classList.toggle("bad", Boolean(bundle.error));
  note.textContent = bundle.error ?? (bundle.loading ? `loading ${bundle.loading}; ${bundle.name} goes on` : `model ${bundle.model}`);
}

function tellProblem(text) {
  page.problem = text;
  clearTimeout(page.problemTimer);
  if (text) page.problemTimer = setTimeout(() => tellProblem(""), PROBLEM_MS);
  tellState();
}

function tellState() {
  const status = page.status;
  const [state, text, notice] = stateOf(status);
  byId("state").dataset.state = state;
  byId("state").textContent = text;
  const said = page.problem || notice;
  byId("notice").hidden = said === "";
  if (byId("notice").textContent !== said) byId("notice").textContent = said;
  const paused = status?.state === "paused";
  byId("pause").textContent = paused ? "Resume" : "Pause";
  byId("pause").setAttribute("aria-pressed", String(paused));
  byId("step").disabled = !paused;
}

function stateOf(status) {
  if (!page.connected) return ["gone", "bridge gone", "The bridge does not answer: it has ended, or is about to start. This page comes back by itself."];
  if (!status) return ["loading", "loading", ""];
  if (status.simulator_ended && status.state !== "stopping") return ["silent", "simulator gone", "The simulator has ended. This page goes on by itself when it is back."];
  if (status.state !== "running") return [status.state, status.state, ""];
  if (status.silent && status.silence === null) {
    return ["silent", "no simulator", `No frame has come yet: waiting for a simulator on ${page.hello.input}.`];
  }
  if (status.silent) {
    return ["silent", "simulator gone", `Nothing has come from the simulator for ${Math.round(status.silence)} s. The bridge waits on ${page.hello.input} and goes on by itself.`];
  }
  return [status.state, status.state, ""];
}

function showLegend() {
  page.legendAt = performance.now();
  const shares = [...labels.shares()].filter(([, share]) => share > 0.001).sort((a, b) => a[0] - b[0]);
  const items = shares.map(([id, share]) => {
    const item = document.createElement("li");
    const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const color = labels.taxonomy?.classes[id]?.color ?? [128, 128, 128];
    rect.setAttribute("width", "100%");
    rect.setAttribute("height", "100%");
    rect.setAttribute("fill", `rgb(${color.join(" ")})`);
    swatch.append(rect);
    item.dataset.id = String(id);
    item.append(swatch, `${labels.name(id)} ${(100 * share).toFixed(share < 0.01 ? 1 : 0)} %`);
    return item;
  });
  byId("legend").replaceChildren(...items);
  showPointed();
}

/** Names the class under the pointer; the picture moves on under a pointer that rests. */
function showPointed() {
  const id = page.pointer ? labels.at(...page.pointer) : null;
  byId("pointed").value = id === null ? "" : `${labels.name(id)} (${id})`;
  for (const item of byId("legend").children) item.classList.toggle("here", item.dataset.id === String(id));
}

function saveFile(header, payload) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([payload], { type: "image/png" }));
  link.download = `${header.camera}_${String(header.frame).padStart(6, "0")}_${header.kind}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// What the user does

byId("camera").addEventListener("change", (event) => {
  tellProblem("");
  lookAt(event.target.value);
  watch();
});
byId("bundle").addEventListener("change", (event) => ask({ op: "bundle", bundle: event.target.value }));
byId("pause").addEventListener("click", toggleRun);
byId("step").addEventListener("click", () => ask({ op: "step" }));
document.addEventListener("visibilitychange", watch);
for (const [panel, figure] of figures) figure.querySelector(".save").addEventListener("click", () => save(panel));

for (const input of document.querySelectorAll('input[name="view"], input[name="edges"]')) {
  input.addEventListener("change", () => {
    byId("panels").hidden = byId("legend").hidden = wiping();
    byId("wipe").hidden = !wiping();
    byId("edge-choice").disabled = wiping();
    watch();
  });
}

const labelPicture = labels.canvas;
labelPicture.addEventListener("pointermove", (event) => {
  const box = labelPicture.getBoundingClientRect();
  page.pointer = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  showPointed();
});
labelPicture.addEventListener("pointerleave", () => {
  page.pointer = null;
  showPointed();
});

const wipePicture = byId("wipe-picture");
const wipeAt = byId("wipe-at");
const placeWipe = () => wipePicture.style.setProperty("--at", `${wipeAt.value}%`);
wipeAt.addEventListener("input", placeWipe);
function dragWipe(event) {
  if (event.buttons === 0) return;
  const box = wipePicture.getBoundingClientRect();
  wipeAt.value = String((100 * (event.clientX - box.left)) / box.width);
  placeWipe();
}
wipePicture.addEventListener("pointerdown", (event) => {
  wipePicture.setPointerCapture(event.pointerId);
  wipeAt.focus({ preventScroll: true });
  dragWipe(event);
});
wipePicture.addEventListener("pointermove", dragWipe);

function choose(name, value) {
  const input = document.querySelector(`input[name="${name}"][value="${value}"]`);
  input.checked = true;
  input.dispatchEvent(new Event("change"));
}

const keys = {
  " ": toggleRun,
  ".": () => ask({ op: "step" }),
  w: () => choose("view", wiping() ? "panels" : "wipe"),
  e: () => choose("edges", edgeKind() === "dned" ? "laplacian" : "dned"),
  s: () => save("photoreal"),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  // Where a control uses a key itself, the key is its own.
  if (event.target.closest("select, input[type=number]") || (event.key === " " && event.target.closest("input, button"))) return;
  const act = keys[event.key.toLowerCase()];
  if (act) {
    event.preventDefault();
    act();
  }
});
