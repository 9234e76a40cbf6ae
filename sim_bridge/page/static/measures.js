// Chart of the rates, table of the latencies, table of the messages.

const SECONDS = 120;
const DROPS_SHOWN_ALWAYS = new Set(["published", "superseded"]);

const SVG = "http://www.w3.org/2000/svg";

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

export class RateChart {
  constructor(canvas) {
    this.canvas = canvas;
    this.points = [];
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  clear() {
    this.points = [];
    this.draw();
  }

  add(rates) {
    const now = performance.now() / 1000;
    this.points.push({ at: now, ...rates });
    this.points = this.points.filter((point) => point.at > now - SECONDS);
    this.draw();
  }

  draw() {
    const scale = devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    const style = getComputedStyle(this.canvas);
    const top = niceAbove(Math.max(5, ...this.points.flatMap((p) => [p.in, p.out, p.page])));
    const area = { left: 30, right: width - 4, top: 8, bottom: height - 20 };
    this.drawAxes(context, style, area, top);
    for (const name of ["in", "page", "out"]) this.drawLine(context, style, area, top, name);
  }

  drawAxes(context, style, area, top) {
    context.font = `11px ${style.fontFamily}`;
    context.fillStyle = style.getPropertyValue("--soft");
    context.strokeStyle = style.getPropertyValue("--line");
    context.lineWidth = 1;
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (let i = 0; i <= 4; i++) {
      const y = Math.round(area.bottom - (i / 4) * (area.bottom - area.top)) + 0.5;
      context.beginPath();
      context.moveTo(area.left, y);
      context.lineTo(area.right, y);
      context.stroke();
      if (i % 2 === 0) context.fillText(String((top * i) / 4), area.left - 6, y);
    }
    context.textBaseline = "alphabetic";
    context.textAlign = "left";
    context.fillText("2 min ago", area.left, area.bottom + 15);
    context.textAlign = "right";
    context.fillText("now", area.right, area.bottom + 15);
  }

  drawLine(context, style, area, top, name) {
    const now = performance.now() / 1000;
    context.strokeStyle = style.getPropertyValue(`--${name}`);
    context.lineWidth = name === "out" ? 2 : 1.4;
    context.lineJoin = "round";
    context.beginPath();
    for (const point of this.points) {
      const x = area.right - ((now - point.at) / SECONDS) * (area.right - area.left);
      context.lineTo(x, area.bottom - (Math.min(point[name], top) / top) * (area.bottom - area.top));
    }
    context.stroke();
  }
}

function niceAbove(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 8, 10].map((step) => step * unit).find((step) => step >= value);
}

export function showStages(body, stages, latency) {
  const worst = Math.max(1e-9, ...Object.values(latency).map((values) => values.p99));
  const rows = stages
    .filter((stage) => latency[stage])
    .map((stage) => {
      const { p50, p99 } = latency[stage];
      const row = element("tr", stage === "end_to_end" ? { class: "sum" } : {});
      row.append(element("th", { scope: "row" }, stage.replaceAll("_", " ")), element("td", {}, short(p50)), element("td", {}, short(p99)));
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

export function showMessages(body, outcomes, rgb, labels) {
  const row = (name, attributes = {}) => {
    const made = element("tr", { "data-outcome": name, ...attributes });
    made.append(element("th", { scope: "row" }, name.replaceAll("_", " ")));
    made.append(element("td", {}, String(rgb[name] ?? 0)), element("td", {}, String(labels[name] ?? 0)));
    return made;
  };
  const shown = outcomes.filter((name) => DROPS_SHOWN_ALWAYS.has(name) || rgb[name] || labels[name]);
  body.replaceChildren(row("received", { class: "sum" }), ...shown.map((name) => row(name)), row("in_flight"));
}
