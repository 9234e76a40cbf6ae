// Curves over the last two minutes.

const SECONDS = 120;
const GAP_SECONDS = 5; // nothing came for so long: that is no line

export class TimeChart {
  /**
   * @param canvas Where it is drawn.
   * @param lines The curves by name, the last one on top: `color` names a CSS variable, `width` is in pixels.
   * @param least The scale reaches at least so far.
   */
  constructor(canvas, lines, least) {
    this.canvas = canvas;
    this.lines = lines;
    this.least = least;
    this.points = [];
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Draws other curves of the same points from now on. */
  show(lines) {
    this.lines = lines;
    this.draw();
  }

  clear() {
    this.points = [];
    this.draw();
  }

  /** Takes the values of this moment, by name; a curve has a gap where its value is missing or nothing came for long. */
  add(values) {
    const now = performance.now() / 1000;
    const last = this.points.at(-1);
    // Status messages may be set to come rarely: a break is one beside what was usual.
    const broken = last !== undefined && now - last.at > Math.max(GAP_SECONDS, 3 * (last.after ?? Infinity));
    this.points.push({ at: now, values, after: last && !broken ? now - last.at : last?.after, broken });
    this.draw();
  }

  latest() {
    return this.points.at(-1)?.values ?? {};
  }

  /** The largest value of a curve that is still in sight. */
  most(name) {
    return Math.max(0, ...this.points.map(({ values }) => values[name] ?? 0));
  }

  draw() {
    const oldest = performance.now() / 1000 - SECONDS;
    this.points = this.points.filter((point) => point.at > oldest);
    const scale = devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    const style = getComputedStyle(this.canvas);
    const top = niceAbove(Math.max(this.least, ...Object.keys(this.lines).map((name) => this.most(name))));
    const area = { left: 34, right: width - 4, top: 8, bottom: height - 20 };
    drawAxes(context, style, area, top);
    for (const [name, line] of Object.entries(this.lines)) this.drawLine(context, style, area, top, name, line);
  }

  drawLine(context, style, area, top, name, { color, width = 1.4, dash = [] }) {
    const now = performance.now() / 1000;
    context.strokeStyle = style.getPropertyValue(color);
    context.lineWidth = width;
    context.lineJoin = "round";
    context.setLineDash(dash);
    context.beginPath();
    let drawing = false;
    for (const { at, values, broken } of this.points) {
      if (broken) drawing = false;
      const value = values[name];
      if (value !== undefined) {
        const x = area.right - ((now - at) / SECONDS) * (area.right - area.left);
        const y = area.bottom - (value / top) * (area.bottom - area.top);
        if (drawing) context.lineTo(x, y);
        else context.moveTo(x, y);
      }
      drawing = value !== undefined;
    }
    context.stroke();
    context.setLineDash([]);
  }
}

function drawAxes(context, style, area, top) {
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

function niceAbove(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 8, 10].map((step) => step * unit).find((step) => step >= value);
}
