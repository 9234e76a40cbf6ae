// The measurements: rates, latencies and where messages went, each as curves and as figures.

import { TimeChart } from "./charts.js";

const SHOWN_ALWAYS = new Set(["published", "superseded"]);
const RATES = { in: { color: "--in" }, page: { color: "--page" }, out: { color: "--out", width: 2 } };
const DROP_COLORS = 6; // as many as the style sheet has; further reasons are dashed
const DASH = [5, 3];
const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== "") made.textContent = text;
  return made;
}

/** A number with as many digits as one reads: 0.12, 4.3, 41. */
export function short(value) {
  if (!Number.isFinite(value)) return "–";
  return value.toFixed(value < 1 ? 2 : value < 10 ? 1 : 0);
}

const worded = (name) => name.replaceAll("_", " ");

export class Measures {
  constructor() {
    this.rates = new TimeChart(byId("rate-chart"), RATES, 5);
    this.latencies = new TimeChart(byId("latency-chart"), {}, 5);
    this.drops = new TimeChart(byId("drop-chart"), {}, 2);
    this.before = null;
    this.stage = byId("stage");
    this.stage.addEventListener("change", () => this.showStage());
  }

  /** Forgets everything: for another camera. */
  clear() {
    this.before = null;
    for (const chart of [this.rates, this.latencies, this.drops]) chart.clear();
    this.showReasons([]);
  }

  /** Learns what there is to be measured. */
  greet({ stages, outcomes }) {
    this.before = null; // it may be another bridge
    this.stages = stages;
    this.reasons = outcomes.filter((outcome) => outcome !== "published");
    const chosen = this.stage.value || "end_to_end";
    this.stage.replaceChildren(...stages.map((stage) => new Option(worded(stage), stage, false, stage === chosen)));
    this.showStage();
  }

  /**
   * Takes a status message.
   *
   * @param at When it was made, in seconds of the bridge's clock.
   * @param counters The counters by outcome, of RGB and of semantic messages.
   * @param rates Messages a second: in, out, drawn on this page.
   * @param latency Milliseconds by stage: p50 and p99.
   */
  take(at, [rgb, labels], rates, latency) {
    this.rates.add(rates);
    for (const [name, value] of Object.entries(rates)) byId(`rate-${name}`).value = short(value);
    this.latencies.add(Object.fromEntries(Object.entries(latency).flatMap(([stage, { p50, p99 }]) => [[`${stage} p50`, p50], [`${stage} p99`, p99]])));
    this.takeDrops(at, rgb, labels);
    showStages(byId("stages").tBodies[0], this.stages, latency);
    showMessages(byId("messages").tBodies[0], ["published", ...this.reasons], rgb, labels);
  }

  takeDrops(at, rgb, labels) {
    const counts = Object.fromEntries(this.reasons.map((reason) => [reason, (rgb[reason] ?? 0) + (labels[reason] ?? 0)]));
    if (this.before) {
      const seconds = Math.max(0.001, at - this.before.at);
      const perSecond = this.reasons.map((reason) => [reason, (counts[reason] - this.before.counts[reason]) / seconds]);
      // A bridge that was started again counts from nothing: what was dropped meanwhile is not known.
      if (perSecond.every(([, rate]) => rate >= 0)) this.drops.add(Object.fromEntries(perSecond));
    }
    this.before = { at, counts };
    this.showReasons(this.reasons.filter((reason) => this.drops.most(reason) > 0));
  }

  showStage() {
    const stage = this.stage.value;
    this.latencies.show({ [`${stage} p99`]: { color: "--page" }, [`${stage} p50`]: { color: "--out", width: 2 } });
  }

  /** Draws the reasons that there were, and names their colours. */
  showReasons(reasons) {
    const place = (reason) => this.reasons.indexOf(reason);
    const color = (reason) => `--drop-${1 + (place(reason) % DROP_COLORS)}`;
    const dashed = (reason) => place(reason) >= DROP_COLORS;
    this.drops.show(Object.fromEntries(reasons.map((reason) => [reason, { color: color(reason), dash: dashed(reason) ? DASH : [] }])));
    const now = this.drops.latest();
    const named = reasons.map((reason) => {
      const name = element("span", dashed(reason) ? { class: "dashed" } : {}, `${worded(reason)} ${short(now[reason])}`);
      name.style.setProperty("--c", `var(${color(reason)})`);
      return name;
    });
    byId("drop-key").replaceChildren(...(named.length > 0 ? named : ["none in the last two minutes"]));
  }
}

function showStages(body, stages, latency) {
  const worst = Math.max(1e-9, ...Object.values(latency).map((values) => values.p99));
  const rows = stages
    .filter((stage) => latency[stage])
    .map((stage) => {
      const { p50, p99 } = latency[stage];
      const row = element("tr", stage === "end_to_end" ? { class: "sum" } : {});
      row.append(element("th", { scope: "row" }, worded(stage)), element("td", {}, short(p50)), element("td", {}, short(p99)));
      const cell = element("td", { class: "bar-cell" });
      cell.append(bars(p50 / worst, p99 / worst));
      row.append(cell);
      return row;
    });
  body.replaceChildren(...rows);
}

function bars(half, most) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 8");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const [share, name] of [[most, "bar-99"], [half, "bar-50"]]) {
    const bar = document.createElementNS(SVG, "rect");
    bar.setAttribute("width", String(Math.max(0.5, 100 * share)));
    bar.setAttribute("height", "8");
    bar.setAttribute("class", name);
    svg.append(bar);
  }
  return svg;
}

function showMessages(body, outcomes, rgb, labels) {
  const row = (name, attributes = {}) => {
    const made = element("tr", { "data-outcome": name, ...attributes });
    made.append(element("th", { scope: "row" }, worded(name)));
    made.append(element("td", {}, String(rgb[name] ?? 0)), element("td", {}, String(labels[name] ?? 0)));
    return made;
  };
  const shown = outcomes.filter((name) => SHOWN_ALWAYS.has(name) || rgb[name] || labels[name]);
  body.replaceChildren(row("received", { class: "sum" }), ...shown.map((name) => row(name)), row("in_flight"));
}
