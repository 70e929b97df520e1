// The text of a response, cut where segments of its heads begin and end, coloured by their reward.

import { make, signed } from "./dom.js";

export const ALL = "all heads";

const spoken = (score, head) => score.segments.filter((one) => one.head === head).length > 1;

/** Heads, in order, that speak of parts of any of the responses. */
export function partialHeads(scores, granularity) {
  const heads = new Set(scores.flatMap((score) => score.segments.map((one) => one.head)));
  return [...heads].filter(
    (head) => (granularity[head] ?? "response") !== "response" || scores.some((score) => spoken(score, head)),
  );
}

/**
 * Pieces [{start, end, text, reward, shares: [[head, reward], …]}] that tile the response, in code
 * points. A segment's reward is spread over its pieces by length, so rewards still add up.
 */
export function piecesOf(response, segments) {
  const points = Array.from(response);
  const cuts = new Set([0, points.length, ...segments.flatMap((one) => [one.start, one.end])]);
  const edges = [...cuts].sort((a, b) => a - b);
  return edges.slice(1).map((end, i) => {
    const start = edges[i];
    const shares = segments
      .filter((one) => one.start <= start && end <= one.end)
      .map((one) => [one.head, (one.reward * (end - start)) / (one.end - one.start)]);
    const reward = shares.reduce((sum, [, share]) => sum + share, 0);
    return { start, end, text: points.slice(start, end).join(""), reward, shares };
  });
}

/** The coloured text. `largest`: the share that gets the full colour. */
export function colouredText(pieces, largest, view) {
  return make(
    "p",
    { class: "coloured", "data-view": view },
    ...pieces.map((piece) => {
      if (!piece.shares.length) return make("span", { class: "piece silent" }, piece.text);
      const [name] = piece.shares.reduce((worst, one) => (blame(one, piece) > blame(worst, piece) ? one : worst));
      const mark = make(
        "span",
        { class: `piece ${piece.reward < 0 ? "negative" : "positive"}`, title: told(piece) },
        make("span", { class: "words" }, piece.text),
        make("span", { class: "tag" }, `${/\s$/.test(piece.text) ? "" : " "}${signed(piece.reward)}${view === ALL ? ` ${name}` : ""} `),
      );
      mark.style.setProperty("--strength", largest ? Math.abs(piece.reward) / largest : 0);
      return mark;
    }),
  );
}

// How much a head is behind the sign of its piece.
const blame = ([, share], piece) => (piece.reward < 0 ? -share : share);

const told = (piece) => piece.shares.map(([head, share]) => `${head} ${signed(share)}`).join(", ");

/** The segment that costs most, in words. */
export function mostToBlame(response, segments) {
  const worst = segments.reduce((found, one) => (!found || one.reward < found.reward ? one : found), null);
  if (!worst || worst.reward >= 0) return make("p", { class: "blame none" }, "No part of the text is to blame.");
  const text = Array.from(response).slice(worst.start, worst.end).join("").trim();
  return make("p", { class: "blame" }, `Most to blame: “${text}”, ${worst.head} ${signed(worst.reward)}`);
}

/** Every segment as it came, for those who read tables rather than colours. */
export function segmentTable(response, segments) {
  const points = Array.from(response);
  const rows = segments.map((one) =>
    make(
      "tr",
      { "data-head": one.head, "data-start": one.start, "data-end": one.end },
      make("th", { scope: "row" }, one.head),
      make("td", { class: "text" }, points.slice(one.start, one.end).join("")),
      make("td", {}, signed(one.value)),
      make("td", {}, signed(one.reward)),
      make("td", { class: "hint" }, one.redistribution ? `spread by ${one.redistribution}` : ""),
    ),
  );
  const head = ["head", "segment", "value", "reward", ""].map((name) => make("th", { scope: "col" }, name));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "All segments" },
    make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)));
}
