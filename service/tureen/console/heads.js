// Heads as dots with whiskers on one axis: calibrated value, plus and minus one standard deviation.

import { draw, make, signed } from "./dom.js";

const ROW = 36, BELOW = 20, EDGE = 3; // pixels, pixels, percent

/** How far the axis of a chart must reach, so that all responses share one. */
export function reach(scores) {
  const ends = scores.flatMap((score) => Object.values(score.heads).map((head) => Math.abs(head.calibrated) + (head.std ?? 0)));
  return Math.max(1, ...ends.map(Math.ceil));
}

export function headChart(score, limit) {
  const names = Object.keys(score.heads);
  const height = names.length * ROW + BELOW;
  const x = (value) => `${(EDGE + ((value + limit) / (2 * limit)) * (100 - 2 * EDGE)).toFixed(2)}%`;
  const alone = score.uncertainty?.members === 1; // has nobody to differ from
  const shown = Object.fromEntries(Object.entries(score.heads).map(([name, head]) => [name, alone ? { ...head, std: null } : head]));
  const label = names.map((name) => `${name} ${inWords(shown[name])}`).join("; ");
  const chart = draw("svg", { height, role: "img", "aria-label": `Heads, calibrated: ${label}`, class: "heads" });
  for (const tick of [-limit, 0, limit]) {
    chart.append(
      draw("line", { x1: x(tick), x2: x(tick), y1: 0, y2: height - BELOW, class: tick ? "grid" : "zero" }),
      draw("text", { x: x(tick), y: height - 5, "text-anchor": "middle", class: "tick" }, tick < 0 ? `−${-tick}` : `${tick}`),
    );
  }
  names.forEach((name, i) => {
    const { calibrated, std } = shown[name];
    const y = i * ROW + 25;
    chart.append(
      draw("text", { x: 0, y: y - 11, class: "name" }, name),
      draw("text", { x: "100%", y: y - 11, "text-anchor": "end", class: "number", "data-head": name }, inWords(shown[name])),
    );
    if (std !== null && std !== undefined) {
      chart.append(
        draw("line", { x1: x(calibrated - std), x2: x(calibrated + std), y1: y, y2: y, class: "whisker" }),
        ...[calibrated - std, calibrated + std].map((end) => draw("line", { x1: x(end), x2: x(end), y1: y - 4, y2: y + 4, class: "whisker" })),
      );
    }
    chart.append(draw("circle", { cx: x(calibrated), cy: y, r: 4.5, class: calibrated < 0 ? "dot negative" : "dot positive" }));
  });
  return chart;
}

const inWords = ({ calibrated, std }) => signed(calibrated) + (std === null || std === undefined ? "" : ` ± ${std.toFixed(3)}`);

/** Reward, its spread and the heads of K responses in one table, best first. */
export function comparison(scores, ranking, names, temperature) {
  const best = scores[ranking[0]].reward;
  const heads = Object.keys(scores[0].heads);
  const chance = (reward) => 1 / (1 + Math.exp((best - reward) / temperature)); // Bradley–Terry
  const row = (name, cell) => make("tr", {}, make("th", { scope: "row" }, name), ...ranking.map((i) => make("td", {}, cell(scores[i], i))));
  const table = make(
    "table",
    {},
    make("caption", {}, "Side by side, best first"),
    make("thead", {}, make("tr", {}, make("td"), ...ranking.map((i) => make("th", { scope: "col" }, names[i])))),
    make(
      "tbody",
      {},
      row("reward", (score) => signed(score.reward)),
      row("behind the best", (score, i) => (i === ranking[0] ? "best" : signed(score.reward - best))),
      row("wins against the best", (score, i) => (i === ranking[0] ? "best" : `${(100 * chance(score.reward)).toFixed(0)} %`)),
      ...heads.map((head) => row(head, (score) => signed(score.heads[head].calibrated))),
      row("tokens", (score) => `${score.tokens}${score.truncated_tokens ? ` (${score.truncated_tokens} dropped)` : ""}`),
    ),
  );
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Comparison" }, table);
}
