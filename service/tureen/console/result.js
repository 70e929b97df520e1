// What came of one request: cards of K responses, or the error as the server says it.

import { byId, make, ordinal, shortFingerprint, signed } from "./dom.js";
import { comparison, headChart, reach } from "./heads.js";
import { ALL, colouredText, mostToBlame, partialHeads, piecesOf, segmentTable } from "./segments.js";

const PLACES = ["best", "2nd", "3rd"];

export function clear() {
  for (const id of ["error", "cards", "comparison"]) byId(id).replaceChildren();
  byId("views").hidden = byId("legend").hidden = true;
}

/** All that an error says, into an element with role alert. */
export function showError(place, info) {
  const facts = ["code", "field", "got", "limit", "retry_after_s"]
    .filter((name) => info[name] !== null && info[name] !== undefined)
    .flatMap((name) => [make("dt", {}, name), make("dd", { "data-fact": name }, String(info[name]))]);
  place.replaceChildren(make("div", { class: "error" }, make("p", {}, info.message), make("dl", {}, ...facts)));
  place.scrollIntoView({ block: "nearest" });
}

/** `model`: its entry of /v1/models, for granularities and temperature; may be undefined. */
export function show(responses, answer, model) {
  clear();
  const [{ scores }] = answer.results;
  const names = responses.map((_, i) => `Response ${ordinal(i)}`);
  const ranking = scores.map((_, i) => i).sort((a, b) => scores[b].reward - scores[a].reward || a - b);
  const granularity = Object.fromEntries((model?.heads ?? []).map((head) => [head.name, head.granularity]));
  const heads = partialHeads(scores, granularity);
  const limit = reach(scores);
  const cards = scores.map((score, i) => card(names[i], responses[i], score, scores.length > 1 ? place(ranking.indexOf(i)) : null, limit, heads));
  byId("cards").replaceChildren(...cards);
  if (scores.length > 1) byId("comparison").replaceChildren(comparison(scores, ranking, names, model?.temperature ?? 1));
  offerViews(heads, (view) => colour(responses, scores, heads, view));
  const best = scores.length > 1 ? `${names[ranking[0]]} is best with ${signed(scores[ranking[0]].reward)}` : `Reward ${signed(scores[0].reward)}`;
  byId("summary").textContent = `${best}. ${answer.model}, ${shortFingerprint(answer.fingerprint)}, ${(answer.timings.total_ns / 1e6).toFixed(1)} ms.`;
}

const place = (rank) => PLACES[rank] ?? `${rank + 1}th`;

function card(name, response, score, rank, limit, heads) {
  const parts = score.segments.filter((one) => heads.includes(one.head));
  const spanning = score.segments.filter((one) => !heads.includes(one.head));
  const title = make("h3", {}, name, ...(rank ? [" ", make("span", { class: rank === "best" ? "rank best" : "rank" }, rank)] : []));
  return make(
    "article",
    { class: "card", "aria-label": `${name}, reward ${signed(score.reward)}` },
    title,
    make("p", { class: "reward" }, make("data", { value: score.reward }, signed(score.reward)), ...spread(score.uncertainty)),
    make("div", { class: "text-of" }),
    mostToBlame(response, parts),
    make(
      "p",
      { class: "spanning" },
      make("span", { class: "hint" }, "Of the whole response: "),
      ...spanning.map((one) => make("span", { class: `chip ${one.reward < 0 ? "negative" : "positive"}` }, `${one.head} ${signed(one.reward)}`)),
    ),
    headChart(score, limit),
    make("details", {}, make("summary", {}, `All ${score.segments.length} segments`), segmentTable(response, score.segments)),
  );
}

function spread(uncertainty) {
  if (!uncertainty || uncertainty.members < 2) return []; // one member has nobody to differ from
  const { std, low, high, members } = uncertainty;
  return [make("span", { class: "hint" }, `± ${std.toFixed(3)}; ${members} members, ${signed(low)} to ${signed(high)}`)];
}

function offerViews(heads, choose) {
  const views = byId("views");
  const legend = views.querySelector("legend");
  const chosen = views.querySelector(":checked")?.value;
  const names = heads.length ? [ALL, ...heads] : [];
  const radios = names.map((name) => {
    const radio = make("input", { type: "radio", name: "view", value: name });
    radio.checked = name === (names.includes(chosen) ? chosen : ALL);
    radio.addEventListener("change", () => choose(name));
    return make("label", {}, radio, ` ${name}`);
  });
  views.replaceChildren(legend, ...radios);
  views.hidden = byId("legend").hidden = !names.length;
  choose(views.querySelector(":checked")?.value ?? ALL);
}

function colour(responses, scores, heads, view) {
  const shown = scores.map((score, i) =>
    piecesOf(responses[i], score.segments.filter((one) => (view === ALL ? heads.includes(one.head) : one.head === view))),
  );
  const largest = Math.max(0, ...shown.flat().map((piece) => Math.abs(piece.reward)));
  byId("cards").querySelectorAll(".text-of").forEach((element, i) => element.replaceChildren(colouredText(shown[i], largest, view)));
}
