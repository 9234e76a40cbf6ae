// Draws pictures on canvases; labels come as exact class ids and are coloured here.

const taxonomies = new Map();

/** Names and colours of a taxonomy's classes, fetched once. */
export function taxonomyOf(name) {
  if (!taxonomies.has(name)) {
    taxonomies.set(name, fetch(`/taxonomies/${encodeURIComponent(name)}`).then((answer) => (answer.ok ? answer.json() : null)));
  }
  return taxonomies.get(name);
}

/** Decodes a picture without touching its values: class ids must come out as they went in. */
export async function decode(payload) {
  if (payload.length === 0) return null;
  return createImageBitmap(new Blob([payload]), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

export function draw(canvas, bitmap) {
  fit(canvas, bitmap.width, bitmap.height);
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
}

function fit(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
}

export class Labels {
  constructor(canvas) {
    this.canvas = canvas;
    this.ids = null;
    this.reader = document.createElement("canvas");
    this.colors = new Uint32Array(256);
    this.taxonomy = null;
  }

  /** Colours the ids of a grey bitmap and keeps them. */
  draw(bitmap, taxonomy) {
    const { width, height } = bitmap;
    fit(this.reader, width, height);
    const context = this.reader.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    const image = context.getImageData(0, 0, width, height);
    const pixels = new Uint32Array(image.data.buffer);
    if (this.taxonomy !== taxonomy) this.learn(taxonomy);
    const ids = new Uint8Array(pixels.length);
    for (let i = 0; i < pixels.length; i++) {
      const id = pixels[i] & 255;
      ids[i] = id;
      pixels[i] = this.colors[id];
    }
    this.ids = { ids, width, height };
    fit(this.canvas, width, height);
    this.canvas.getContext("2d").putImageData(image, 0, 0);
  }

  learn(taxonomy) {
    this.taxonomy = taxonomy;
    this.colors.fill(0xff808080);
    for (const [id, { color }] of Object.entries(taxonomy?.classes ?? {})) {
      this.colors[id] = (0xff000000 | (color[2] << 16) | (color[1] << 8) | color[0]) >>> 0;
    }
  }

  name(id) {
    return this.taxonomy?.classes[id]?.name ?? `id ${id}`;
  }

  /** The class id at a place of the canvas as shown, 0 to 1 each way; null without a picture. */
  at(x, y) {
    if (!this.ids) return null;
    const { ids, width, height } = this.ids;
    const column = Math.min(width - 1, Math.max(0, Math.floor(x * width)));
    const row = Math.min(height - 1, Math.max(0, Math.floor(y * height)));
    return ids[row * width + column];
  }

  /** Share of the picture by class id. */
  shares() {
    const counts = new Map();
    if (!this.ids) return counts;
    const { ids } = this.ids;
    for (let i = 0; i < ids.length; i += 7) counts.set(ids[i], (counts.get(ids[i]) ?? 0) + 7 / ids.length);
    return counts;
  }
}
