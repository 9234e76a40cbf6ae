// The style's controls: seed, or six ensemble weights by hand.

const SIDES = 6;
const LOCAL_MS = 800; // after a change here, what the server says of the style is older than that for so long

export class StyleControls {
  /** @param change called with {seed, ensemble} when the user changes something */
  constructor(change) {
    this.change = change;
    this.byHand = false;
    this.touched = -Infinity;
    this.seed = document.getElementById("seed");
    this.from = document.getElementById("weights-from");
    this.fieldset = document.getElementById("weights");
    this.rows = Array.from({ length: SIDES }, (_, side) => this.addRow(side));
    this.seed.addEventListener("change", () => this.useSeed(this.seed.valueAsNumber));
    document.getElementById("next-seed").addEventListener("click", () => this.useSeed(this.seed.valueAsNumber + 1));
    document.getElementById("learned").addEventListener("click", () => this.useSeed(0));
  }

  addRow(side) {
    const row = document.createElement("div");
    const label = document.createElement("label");
    const slider = document.createElement("input");
    const value = document.createElement("output");
    label.textContent = `stride ${2 ** side}`;
    label.htmlFor = slider.id = `weight-${side}`;
    Object.assign(slider, { type: "range", min: "0", max: "1", step: "0.01", value: "0.17" });
    slider.setAttribute("aria-describedby", "weights-from");
    slider.addEventListener("input", () => this.useWeights());
    row.append(label, slider, value);
    this.fieldset.append(row);
    return { slider, value };
  }

  useSeed(seed) {
    const limit = Number(this.seed.max || 0);
    const clean = Number.isFinite(seed) ? Math.trunc(seed) : 0;
    this.seed.value = String(clean > limit ? 0 : Math.max(0, clean));
    this.touched = performance.now();
    this.setFrom(false);
    this.change({ seed: this.seed.valueAsNumber, ensemble: null });
  }

  useWeights() {
    const ensemble = this.rows.map(({ slider }) => slider.valueAsNumber);
    this.touched = performance.now();
    this.setFrom(true);
    this.showShares(ensemble);
    if (ensemble.some((weight) => weight > 0)) this.change({ seed: this.seed.valueAsNumber || 0, ensemble });
  }

  setFrom(byHand) {
    this.byHand = byHand;
    this.from.textContent = byHand ? "by hand" : "by seed";
  }

  /** Takes over what another page, or this one before, has set. */
  follow({ seed, ensemble }) {
    if (performance.now() - this.touched < LOCAL_MS) return;
    if (document.activeElement !== this.seed) this.seed.value = String(seed);
    this.setFrom(ensemble !== null);
    if (ensemble) this.place(ensemble);
  }

  /** Shows the weights that a frame was made with; null where the network has none. */
  showUsed(weights) {
    this.fieldset.disabled = weights === null;
    if (weights === null) {
      this.from.textContent = "(this network has none)";
      return;
    }
    if (!this.byHand && performance.now() - this.touched >= LOCAL_MS) {
      this.setFrom(false);
      this.place(weights);
    }
  }

  place(weights) {
    weights.forEach((weight, side) => (this.rows[side].slider.value = String(weight)));
    this.showShares(weights);
  }

  showShares(weights) {
    const sum = weights.reduce((total, weight) => total + weight, 0) || 1;
    weights.forEach((weight, side) => (this.rows[side].value.value = `${Math.round((100 * weight) / sum)} %`));
  }
}
