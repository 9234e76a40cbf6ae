// The style's controls, built from what the running network says can be chosen: seeds, weights, numbers, choices.

const LOCAL_MS = 800; // after a change here, what the server says of the style is older than that for so long

const element = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

const input = (type, id, properties) => element("input", { type, id, ...properties });

/** A whole number, its successor, and the default look. */
class Seed {
  constructor({ name, title, low, high }, change) {
    const ids = name === "seed" ? ["seed", "next-seed", "learned"] : [name, `next-${name}`, `first-${name}`];
    this.high = high;
    this.low = low;
    this.change = change;
    this.field = input("number", ids[0], { min: low, max: high, step: 1, value: low, inputMode: "numeric" });
    this.field.addEventListener("change", () => this.use(this.field.valueAsNumber));
    const button = (id, textContent, value) => {
      const made = element("button", { type: "button", id, textContent });
      made.addEventListener("click", () => this.use(value()));
      return made;
    };
    const next = button(ids[1], "Next", () => this.field.valueAsNumber + 1);
    const learned = button(ids[2], "Learned", () => low);
    this.node = element("div", { className: "row" }, element("label", { htmlFor: ids[0], textContent: title }), this.field, next, learned);
  }

  use(wanted) {
    const clean = Number.isFinite(wanted) ? Math.trunc(wanted) : this.low;
    this.field.value = String(clean > this.high ? this.low : Math.max(this.low, clean));
    this.change({ reset: true });
  }

  get value() {
    return this.field.valueAsNumber || this.low;
  }

  show(value) {
    if (document.activeElement !== this.field) this.field.value = String(value ?? this.low);
  }
}

/** Shares of several things; until the user moves one, the network chooses them. */
class Weights {
  constructor({ name, title, names }, change) {
    const id = name === "ensemble" ? "weights" : name;
    this.change = change;
    this.byHand = false;
    this.unset = name === "ensemble" ? "by seed" : "off"; // other weights override a choice
    this.from = element("span", { id: `${id}-from`, textContent: this.unset });
    this.node = element("fieldset", { className: "weights", id }, element("legend", {}, `${title} `, this.from));
    this.rows = names.map((label, place) => this.addRow(id === "weights" ? "weight" : id, label, place));
  }

  addRow(prefix, textContent, place) {
    const id = `${prefix}-${place}`;
    const slider = input("range", id, { min: "0", max: "1", step: "0.01", value: "0.17" });
    const value = document.createElement("output");
    slider.setAttribute("aria-describedby", this.from.id);
    slider.addEventListener("input", () => this.use());
    this.node.append(element("div", {}, element("label", { htmlFor: id, textContent }), slider, value));
    return { slider, value };
  }

  use() {
    this.setByHand(true);
    this.showShares(this.numbers);
    if (this.numbers.some((weight) => weight > 0)) this.change({});
  }

  get numbers() {
    return this.rows.map(({ slider }) => slider.valueAsNumber);
  }

  get value() {
    return this.byHand ? this.numbers : null;
  }

  reset() {
    this.setByHand(false);
  }

  setByHand(byHand) {
    this.byHand = byHand;
    this.from.textContent = byHand ? "by hand" : this.unset;
  }

  show(weights) {
    this.setByHand(weights !== undefined);
    if (weights) this.place(weights);
  }

  /** Shows the weights that the network chose for a frame. */
  showUsed(weights) {
    if (weights && !this.byHand) this.place(weights);
  }

  place(weights) {
    weights.forEach((weight, place) => (this.rows[place].slider.value = String(weight)));
    this.showShares(weights);
  }

  showShares(weights) {
    const sum = weights.reduce((total, weight) => total + weight, 0) || 1;
    weights.forEach((weight, place) => (this.rows[place].value.value = `${Math.round((100 * weight) / sum)} %`));
  }
}

/** A number within its range. */
class Amount {
  constructor({ name, title, low, high, default: first }, change) {
    this.first = first ?? low;
    this.field = input("range", name, { min: low, max: high, step: (high - low) / 100, value: this.first });
    this.shown = document.createElement("output");
    this.field.addEventListener("input", () => (this.show(this.value), change({})));
    this.node = element("div", { className: "row" }, element("label", { htmlFor: name, textContent: title }), this.field, this.shown);
  }

  get value() {
    return this.field.valueAsNumber;
  }

  show(value) {
    this.field.value = String(value ?? this.first);
    this.shown.value = String(Number(this.field.valueAsNumber.toPrecision(3)));
  }
}

/** One of several names. */
class Choice {
  constructor({ name, title, names, default: first }, change) {
    this.first = first ?? names[0];
    this.field = element("select", { id: name }, ...names.map((value) => new Option(value, value)));
    this.field.addEventListener("change", () => change({}));
    this.node = element("div", { className: "row" }, element("label", { htmlFor: name, textContent: title }), this.field);
  }

  get value() {
    return this.field.value;
  }

  show(value) {
    if (document.activeElement !== this.field) this.field.value = value ?? this.first;
  }
}

const KINDS = { seed: Seed, weights: Weights, number: Amount, choice: Choice };

export class StyleControls {
  /** @param change called with the style, values by name, when the user changes something */
  constructor(change) {
    this.change = change;
    this.touched = -Infinity;
    this.built = null;
    this.controls = new Map();
    this.place = document.getElementById("style");
    this.none = document.getElementById("no-style");
  }

  get untouched() {
    return performance.now() - this.touched >= LOCAL_MS;
  }

  /** Takes over what another page, or this one before, has set; builds the controls when the network is another. */
  follow(controls, style) {
    if (JSON.stringify(controls) !== this.built) this.build(controls);
    if (this.untouched) this.controls.forEach((control, name) => control.show(style[name]));
  }

  build(controls) {
    this.built = JSON.stringify(controls);
    const change = ({ reset = false }) => this.tell(reset);
    this.controls = new Map(controls.map((control) => [control.name, new KINDS[control.kind](control, change)]));
    this.place.replaceChildren(...[...this.controls.values()].map(({ node }) => node));
    this.none.hidden = controls.length > 0;
  }

  /** Sends the style; a new seed gives the choice of weights back to the network. */
  tell(reset) {
    this.touched = performance.now();
    if (reset) this.controls.forEach((control) => control.reset?.());
    const values = [...this.controls].map(([name, control]) => [name, control.value]);
    this.change(Object.fromEntries(values.filter(([, value]) => value !== null)));
  }

  /** Shows what the network chose itself for a frame. */
  showUsed(used) {
    if (this.untouched) this.controls.forEach((control, name) => control.showUsed?.(used[name]));
  }
}
