// Live charts from /metrics: what any Prometheus would compute, over the last minutes of this page.

import { metricsText } from "./api.js";
import { byId, count, draw } from "./dom.js";

const EVERY_MS = 2000, KEPT = 90; // three minutes
const WIDTH = 320, HEIGHT = 110, BELOW = 16;
const SAMPLE = /^(\w+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** [{name, labels, value}] of Prometheus text. */
export function parse(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const found = line.startsWith("#") ? null : SAMPLE.exec(line);
    if (!found) continue;
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(LABEL)].map(([, name, value]) => [name, value]));
    samples.push({ name: found[1], labels, value: Number(found[3].replace("Inf", "Infinity")) });
  }
  return samples;
}

const total = (samples, name) => samples.filter((one) => one.name === name).reduce((sum, one) => sum + one.value, 0);

/** [{below, rewards}]: rewards of all models in each bucket, from cumulative counts. */
export function distribution(samples) {
  const atMost = new Map();
  for (const { name, labels, value } of samples) {
    if (name === "tureen_reward_bucket") {
      const below = Number(labels.le.replace("Inf", "Infinity"));
      atMost.set(below, (atMost.get(below) ?? 0) + value);
    }
  }
  const sorted = [...atMost].sort(([a], [b]) => a - b);
  return sorted.map(([below, rewards], i) => ({ below, rewards: rewards - (i ? sorted[i - 1][1] : 0) }));
}

/** Begins to watch; stops while the page is hidden or the person has paused it. */
export function watch() {
  const history = [];
  let paused = false;
  let last = null;
  const button = byId("pause");
  button.addEventListener("click", () => {
    paused = !paused;
    last = null; // a rate over the pause would be no rate of now
    button.textContent = paused ? "Go on" : "Pause";
  });

  async function look() {
    if (paused || document.hidden) return;
    try {
      const samples = parse(await metricsText());
      const now = { at: performance.now(), rewards: total(samples, "tureen_reward_count") };
      const rate = last && now.rewards >= last.rewards ? (1000 * (now.rewards - last.rewards)) / (now.at - last.at) : 0;
      last = now;
      history.push({ rate, waiting: total(samples, "tureen_queue_entries"), inFlight: total(samples, "tureen_in_flight_responses") });
      history.splice(0, history.length - KEPT);
      show(history, distribution(samples));
      byId("live-error").textContent = "";
    } catch (error) {
      last = null;
      byId("live-error").textContent = `No figures: ${error instanceof TypeError ? "the server cannot be reached." : error.message}`;
    }
  }
  const again = () => look().finally(() => setTimeout(again, EVERY_MS));
  again();
}

function show(history, bars) {
  const now = history.at(-1);
  line("throughput", history.map((one) => one.rate), `Throughput: ${count(now.rate)} rewards/s`, "/s");
  line("queue", history.map((one) => one.waiting), `Queue: ${count(now.waiting)} windows wait, ${count(now.inFlight)} responses in flight`);
  histogram(bars);
}

function frame(id, caption, top, ...shapes) {
  const figure = byId(id);
  figure.querySelector("figcaption").textContent = caption;
  figure.querySelector("svg")?.remove();
  figure.append(
    draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": caption },
      draw("line", { x1: 0, x2: WIDTH, y1: HEIGHT - BELOW, y2: HEIGHT - BELOW, class: "zero" }),
      ...shapes,
      draw("text", { x: 2, y: 11, class: "tick" }, top)),
  );
}

function line(id, values, caption, unit = "") {
  const most = Math.max(1, ...values);
  const x = (i) => WIDTH - (values.length - 1 - i) * (WIDTH / (KEPT - 1));
  const y = (value) => HEIGHT - BELOW - (value / most) * (HEIGHT - BELOW - 16);
  const points = values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  frame(id, caption, `${count(most)}${unit}`,
    draw("polyline", { points, class: "line" }),
    draw("circle", { cx: WIDTH - 3, cy: y(values.at(-1)), r: 3, class: "dot positive" }),
    draw("text", { x: WIDTH, y: HEIGHT - 3, "text-anchor": "end", class: "tick" }, "now"),
    draw("text", { x: 0, y: HEIGHT - 3, class: "tick" }, "3 minutes ago"));
}

function histogram(bars) {
  const rewards = bars.reduce((sum, one) => sum + one.rewards, 0);
  const most = Math.max(1, ...bars.map((one) => one.rewards));
  const width = WIDTH / Math.max(1, bars.length);
  const shapes = bars.flatMap(({ below, rewards: n }, i) => {
    const height = (n / most) * (HEIGHT - BELOW - 16);
    const marked = Number.isFinite(below) && i % 3 === 0;
    return [
      draw("rect", { x: i * width + 1, y: HEIGHT - BELOW - height, width: width - 2, height, class: below <= 0 ? "bar negative" : "bar positive" }),
      ...(marked ? [draw("text", { x: (i + 1) * width, y: HEIGHT - 3, "text-anchor": "middle", class: "tick" }, String(below).replace("-", "−"))] : []),
    ];
  });
  const peak = bars.findIndex((one) => one.rewards === most);
  const where = rewards ? `, most between ${peak ? bars[peak - 1].below : "−∞"} and ${bars[peak].below}`.replaceAll("-", "−").replace("Infinity", "∞") : "";
  frame("distribution", `Rewards since the start: ${count(rewards)}${where}`, count(most), ...shapes);
}
