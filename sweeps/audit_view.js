// The page's moving part: a sentence and an alpha in, figures, frames and charts out. Needs audit_measures.js.
"use strict";

const ALPHAS_OF_CURVE = Array.from({ length: 21 }, (_, i) => i / 20);
const SHOWN = 8;
// Viridis (van der Walt and Smith 2015), its darkest end lifted so that it shows on a dark page.
const VIRIDIS = [[104, 72, 150], [59, 102, 159], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

function unpacked(text, kind) {
  return text ? new kind(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer) : new kind(0);
}

/** The page's data with its arrays unpacked, and what every figure needs of the true reward. */
function readData(content) {
  const truth = Float64Array.from(unpacked(content.truth, Float32Array));
  const episode = unpacked(content.episode, Uint32Array), rows = new Map();
  episode.forEach((name, i) => rows.has(name) ? rows.get(name).push(i) : rows.set(name, [i]));
  return {
    ...content,
    truth,
    truthRanks: ranksOf(truth),
    success: content.success && unpacked(content.success, Uint8Array),
    episode,
    episodes: [...rows.values()],
    step: unpacked(content.step, Uint32Array),
    plane: unpacked(content.plane, Float32Array),
    candidates: content.candidates.map((each) => ({
      ...each,
      parts: each.parts.map((part) => ({ ...part, sg: unpacked(part.sg, Float32Array), sb: unpacked(part.sb, Float32Array) })),
    })),
  };
}

/** .91 with a true minus sign and without a leading zero. */
function words(value, digits = 2) {
  return value === null ? "none" : value.toFixed(digits).replace(/^-(?=[0.]+$)/, "").replace(/^(-?)0(?=\.)/, "$1").replace("-", "\u2212");
}

function viridis(share) {
  const place = Math.min(0.9999, Math.max(0, share)) * (VIRIDIS.length - 1), at = Math.floor(place);
  return `rgb(${VIRIDIS[at].map((low, i) => Math.round(low + (VIRIDIS[at + 1][i] - low) * (place - at)))})`;
}

class Chart {
  /** A canvas with two axes; draw(context, x, y) gets functions from values to pixels. */
  constructor(id) {
    this.canvas = document.getElementById(id);
    this.points = [];
  }

  show(alternative, { x, y, xName, yName, ticks = true }, draw) {
    const { canvas } = this, box = canvas.getBoundingClientRect(), sharp = Math.max(window.devicePixelRatio || 1, 2);
    const style = getComputedStyle(canvas), colour = (name) => style.getPropertyValue(`--${name}`).trim();
    canvas.width = box.width * sharp;
    canvas.height = box.height * sharp;
    canvas.setAttribute("aria-label", alternative);
    const context = canvas.getContext("2d");
    context.scale(sharp, sharp);
    context.font = `12px ${style.fontFamily}`;
    const left = ticks ? 42 : 24, right = box.width - 16, top = 24, bottom = box.height - (ticks ? 40 : 24);
    const toX = (value) => left + (value - x[0]) / (x[1] - x[0] || 1) * (right - left);
    const toY = (value) => bottom - (value - y[0]) / (y[1] - y[0] || 1) * (bottom - top);
    this.toX = toX;
    this.fromX = (pixel) => x[0] + (pixel - left) / (right - left) * (x[1] - x[0]);
    context.strokeStyle = colour("line");
    context.fillStyle = colour("soft");
    context.lineWidth = 1;
    context.textAlign = "center";
    if (ticks) for (const value of steps(...x)) context.fillText(words(value, places(...x)), toX(value), bottom + 16);
    context.fillText(xName, (left + right) / 2, box.height - 5);
    context.textAlign = "right";
    if (ticks) for (const value of steps(...y)) {
      context.beginPath(); context.moveTo(left, toY(value)); context.lineTo(right, toY(value)); context.stroke();
      context.fillText(words(value, places(...y)), left - 6, toY(value) + 4);
    }
    context.textAlign = "left";
    context.fillText(yName, 2, 13);
    draw({ context, toX, toY, colour, left, right, top, bottom });
  }
}

/** Round values that divide a range into about five. */
function steps(low, high) {
  const rough = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((each) => each >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9), count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: Math.max(0, count) }, (_, i) => (first + i) * step);
}

function places(low, high) {
  return Math.min(4, Math.max(0, 1 - Math.floor(Math.log10((high - low) / 2 || 1))));
}

function rangeOf(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  return high > low ? [low, high] : [low - 0.5, high + 0.5];
}

class View {
  constructor(data) {
    this.data = data;
    this.sprite = new Image();
    this.sprite.src = data.sprite;
    this.charts = Object.fromEntries(["by-alpha", "histogram", "scatter", "map"].map((id) => [id, new Chart(id)]));
    this.select = document.getElementById("candidate");
    this.slider = document.getElementById("alpha");
    this.curves = new Map();
    data.candidates.forEach((each) => this.select.add(new Option(each.control ? `${each.name} (control)` : each.name, each.name)));
    for (const id of ["highest", "lowest"]) this.strip(document.getElementById(id));
    this.listen();
    this.fromAddress();
    this.sprite.decode().then(() => this.frames());
  }

  listen() {
    this.select.addEventListener("change", () => this.choose(this.select.value, null, true));
    this.slider.addEventListener("input", () => this.choose(this.select.value, Number(this.slider.value), true));
    window.addEventListener("hashchange", () => this.fromAddress());
    window.addEventListener("resize", () => this.draw());
    window.addEventListener("beforeprint", () => this.draw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.charts["by-alpha"].canvas.addEventListener("click", (event) => {
      if (this.candidate.line) this.choose(this.candidate.name, Math.round(this.charts["by-alpha"].fromX(event.offsetX) * 100) / 100, true);
    });
    for (const id of ["scatter", "map"]) {
      const { canvas } = this.charts[id];
      canvas.addEventListener("pointermove", (event) => this.preview(this.charts[id], event));
      canvas.addEventListener("pointerdown", (event) => this.preview(this.charts[id], event));
      canvas.addEventListener("pointerleave", () => { document.getElementById("preview").hidden = true; });
    }
    document.querySelectorAll("#comparison a").forEach((link) => link.addEventListener("click", () => {
      document.getElementById("live").scrollIntoView();
    }));
    document.querySelectorAll("#comparison thead button").forEach((button, column) => {
      button.addEventListener("click", () => this.sort(button.parentElement, column));
    });
  }

  /** #candidate=NAME&alpha=0.37, or where the answer is. */
  fromAddress() {
    const asked = new URLSearchParams(location.hash.slice(1)), { start, candidates } = this.data;
    const known = candidates.some((each) => each.name === asked.get("candidate"));
    const alpha = asked.has("alpha") ? Number(asked.get("alpha")) : null;
    if (known) this.choose(asked.get("candidate"), Number.isFinite(alpha) ? alpha : null, false);
    else this.choose(start.candidate, start.alpha, false);
  }

  /** Show a candidate at an alpha; null: its best. Keeps the choice in the address where the reader made it. */
  choose(name, alpha, made) {
    this.candidate = this.data.candidates.find((each) => each.name === name);
    const { line, best } = this.candidate;
    this.alpha = line ? Math.min(1, Math.max(0, alpha ?? best)) : 0;
    this.select.value = name;
    this.slider.value = this.alpha;
    this.slider.disabled = !line;
    document.getElementById("alpha-value").value = this.alpha.toFixed(2).replace(/^0(?=\.)/, "");
    document.querySelectorAll("#comparison tbody tr").forEach((row) => row.setAttribute("aria-current", row.dataset.candidate === name));
    if (made) history.replaceState(null, "", `#candidate=${encodeURIComponent(name)}&alpha=${this.alpha}`);
    this.reward = rewardsOf(this.candidate.parts, this.alpha);
    this.figures = figuresOf(this.reward, this.data);
    this.sentences();
    this.numbers();
    this.draw();
  }

  draw() {
    this.frames();
    this.drawByAlpha();
    this.drawHistogram();
    this.drawScatter();
    this.drawMap();
  }

  sentences() {
    const { goal, baseline, line, measured } = this.candidate;
    document.getElementById("goal").textContent = goal.join(" / ");
    document.getElementById("baseline").textContent = baseline.length
      ? baseline.join(" / ") + (line ? "" : " (the same embedding as the goal's: only alpha 0 exists)")
      : "none: only alpha 0 exists";
    const nearest = measured.reduce((one, two) => Math.abs(two.alpha - this.alpha) < Math.abs(one.alpha - this.alpha) ? two : one);
    const place = document.getElementById("verdict"), chip = document.createElement("span");
    chip.className = "chip";
    chip.style.setProperty("--verdict", `var(--${nearest.verdict})`);
    chip.textContent = nearest.verdict;
    place.replaceChildren(chip, ` over all frames, at alpha ${nearest.alpha}`);
  }

  numbers() {
    const found = this.figures, { success, top } = this.data;
    const tiles = [
      [words(found.spearmanWithin), "Spearman", "inside an episode"],
      ...(success ? [[words(found.auroc, 3), "AUROC", "successes against others"], [`${found.topSuccesses} of ${top}`, "at the top", "successes among its highest"]] : []),
      [words(found.spearman), "Spearman", "all frames"],
      [words(found.pearson), "Pearson", `inside an episode ${words(found.pearsonWithin)}`],
      [words(found.epic), "EPIC", "0 same, .71 unrelated"],
      [words(found.mean, 3), "mean reward", `standard deviation ${words(found.std, 4)}`],
    ];
    document.getElementById("numbers").replaceChildren(...tiles.map(([figure, name, remark]) => {
      const item = document.createElement("li");
      for (const [kind, text, look] of [["b", figure, ""], ["span", name, ""], ["span", remark, "soft"]]) {
        const part = document.createElement(kind);
        part.textContent = text;
        part.className = look;
        item.append(part);
      }
      return item;
    }));
  }

  strip(place) {
    for (let i = 0; i < Math.min(SHOWN, this.data.truth.length); i++) {
      const figure = document.createElement("figure"), canvas = document.createElement("canvas");
      canvas.width = canvas.height = this.data.tile;
      canvas.setAttribute("role", "img");
      figure.append(canvas, document.createElement("figcaption"));
      place.append(figure);
    }
  }

  frames() {
    const { order } = this.figures, { success } = this.data;
    for (const [id, picked] of [["highest", order.slice(0, SHOWN)], ["lowest", order.slice(-SHOWN).reverse()]]) {
      document.getElementById(id).childNodes.forEach((figure, i) => {
        const frame = picked[i], [canvas, caption] = figure.childNodes;
        this.picture(canvas, frame);
        canvas.setAttribute("aria-label", `frame of episode ${this.data.episode[frame]}, step ${this.data.step[frame]}`);
        caption.replaceChildren(`r ${words(this.reward[frame], 3)}`, document.createElement("br"), `true ${words(this.data.truth[frame])}`);
        figure.dataset.frame = frame;
        figure.className = success && success[frame] ? "success" : "";
      });
    }
  }

  picture(canvas, frame) {
    const { tile, columns } = this.data;
    if (this.sprite.complete) canvas.getContext("2d").drawImage(this.sprite, frame % columns * tile, Math.floor(frame / columns) * tile, tile, tile, 0, 0, canvas.width, canvas.height);
  }

  /** The figures over all alphas are the same until another candidate is chosen. */
  curve() {
    const { name, line, parts } = this.candidate;
    if (!this.curves.has(name)) {
      this.curves.set(name, (line ? ALPHAS_OF_CURVE : [0]).map((alpha) => ({ alpha, ...figuresOf(rewardsOf(parts, alpha), this.data) })));
    }
    return this.curves.get(name);
  }

  drawByAlpha() {
    const curve = this.curve(), { success, top } = this.data;
    const lines = [["data", [], (at) => at.spearmanWithin]];
    if (success) lines.push(["other", [6, 4], (at) => at.auroc], ["good", [1.5, 3.5], (at) => at.topSuccesses / top]);
    const values = curve.flatMap((at) => lines.map(([, , of]) => of(at)));
    const low = Math.min(0, ...values);
    this.charts["by-alpha"].show(`Figures of ${this.candidate.name} over alpha`, { x: [0, 1], y: [low < 0 ? -1 : 0, 1], xName: "alpha", yName: "" }, ({ context, toX, toY, colour, top: ceiling, bottom }) => {
      context.strokeStyle = colour("soft");
      context.beginPath(); context.moveTo(toX(this.alpha), ceiling); context.lineTo(toX(this.alpha), bottom); context.stroke();
      context.lineWidth = 2.4;
      context.lineCap = "round";
      for (const [name, dashes, of] of lines) {
        context.strokeStyle = context.fillStyle = colour(name);
        context.setLineDash(dashes);
        context.beginPath();
        curve.forEach((at) => context.lineTo(toX(at.alpha), toY(of(at))));
        context.stroke();
        context.setLineDash([]);
        context.beginPath(); context.arc(toX(this.alpha), toY(of(this.figures)), 4.5, 0, 7); context.fill();
      }
    });
  }

  drawHistogram() {
    const { reward } = this, { success } = this.data, [low, high] = rangeOf(reward), bins = 40;
    const kinds = success ? [["data", (i) => !success[i]], ["good", (i) => success[i]]] : [["data", () => true]];
    const shares = kinds.map(([name, belongs]) => {
      const counts = new Array(bins).fill(0);
      reward.forEach((value, i) => { if (belongs(i)) counts[Math.min(bins - 1, Math.floor((value - low) / (high - low) * bins))]++; });
      const all = counts.reduce((sum, count) => sum + count, 0);
      return [name, counts.map((count) => count / (all || 1))];
    });
    const most = Math.max(...shares.flatMap(([, counts]) => counts));
    this.charts.histogram.show(`Histogram of the reward from ${words(low, 3)} to ${words(high, 3)}`, { x: [low, high], y: [0, most * 1.05], xName: "reward", yName: success ? "share of its kind" : "share of frames" }, ({ context, toX, toY, colour }) => {
      const width = (high - low) / bins;
      for (const [name, counts] of shares) {
        context.fillStyle = context.strokeStyle = colour(name);
        context.beginPath();
        context.moveTo(toX(low), toY(0));
        counts.forEach((share, i) => { context.lineTo(toX(low + i * width), toY(share)); context.lineTo(toX(low + (i + 1) * width), toY(share)); });
        context.lineTo(toX(high), toY(0));
        context.globalAlpha = 0.25; context.fill();
        context.globalAlpha = 1; context.lineWidth = 1.6; context.stroke();
      }
    });
  }

  drawScatter() {
    const { reward } = this, { truth, success } = this.data, chart = this.charts.scatter;
    chart.show("Scatter of true reward over this reward", { x: rangeOf(reward), y: rangeOf(truth), xName: "reward", yName: "true reward of a step" }, ({ context, toX, toY, colour }) => {
      const [plain, good] = [colour("data"), colour("good")];
      chart.points = Array.from(reward, (value, i) => [toX(value), toY(truth[i])]);
      context.globalAlpha = 0.4;
      chart.points.forEach(([x, y], i) => {
        context.fillStyle = success && success[i] ? good : plain;
        context.beginPath(); context.arc(x, y, 2.6, 0, 7); context.fill();
      });
    });
  }

  drawMap() {
    const { reward } = this, { plane } = this.data, chart = this.charts.map;
    const first = plane.filter((_, i) => i % 2 === 0), second = plane.filter((_, i) => i % 2 === 1), [low, high] = rangeOf(reward);
    chart.show("Map of the states coloured by this reward", { x: rangeOf(first), y: rangeOf(second), xName: "first component", yName: "second component", ticks: false }, ({ context, toX, toY }) => {
      chart.points = Array.from(first, (value, i) => [toX(value), toY(second[i])]);
      context.globalAlpha = 0.85;
      for (const i of [...this.figures.order].reverse()) { // the highest on top
        context.fillStyle = viridis((reward[i] - low) / (high - low));
        context.beginPath(); context.arc(...chart.points[i], 3, 0, 7); context.fill();
      }
    });
  }

  /** The frame of the nearest point beside the pointer. */
  preview(chart, event) {
    const box = document.getElementById("preview"), [canvas, text] = box.childNodes;
    let frame = -1, nearest = 14 ** 2;
    chart.points.forEach(([x, y], i) => {
      const distance = (x - event.offsetX) ** 2 + (y - event.offsetY) ** 2;
      if (distance < nearest) { nearest = distance; frame = i; }
    });
    box.hidden = frame < 0;
    if (frame < 0) return;
    this.picture(canvas, frame);
    text.replaceChildren(...[`reward ${words(this.reward[frame], 3)}`, `true ${words(this.data.truth[frame])}`, `episode ${this.data.episode[frame]}, step ${this.data.step[frame]}`].map((line) => {
      const row = document.createElement("div");
      row.textContent = line;
      return row;
    }));
    box.style.left = `${Math.min(event.clientX + 16, innerWidth - box.offsetWidth - 8)}px`;
    box.style.top = `${Math.min(event.clientY + 16, innerHeight - box.offsetHeight - 8)}px`;
  }

  sort(header, column) {
    const body = document.querySelector("#comparison tbody");
    const down = header.getAttribute("aria-sort") === "ascending";
    header.parentElement.querySelectorAll("th").forEach((each) => each.setAttribute("aria-sort", "none"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.children[column].dataset.key;
    const compare = (one, two) => isNaN(key(one)) ? key(one).localeCompare(key(two)) : key(one) - key(two);
    body.append(...[...body.rows].sort((one, two) => down ? compare(two, one) : compare(one, two)));
  }
}

new View(readData(JSON.parse(document.getElementById("data").textContent)));
