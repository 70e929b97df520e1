// What is served, with the coefficients of its soup.

import { byId, make, shortFingerprint } from "./dom.js";

export function showModels({ models, default_model: first }) {
  byId("serving").textContent = `Serves ${models.map((one) => one.id).join(", ")}.`;
  byId("models").querySelector(".list").replaceChildren(...models.map((one) => model(one, one.id === first)));
}

function model(one, isDefault) {
  const rows = one.heads.map((head) =>
    make("tr", {}, make("th", { scope: "row" }, head.name), make("td", {}, head.granularity.replace("_", "-")), make("td", {}, String(head.weight)),
      make("td", {}, head.calibration.mean.toFixed(3)), make("td", {}, head.calibration.std.toFixed(3))));
  const columns = ["head", "speaks of a", "weight", "mean", "std"].map((name) => make("th", { scope: "col" }, name));
  return make(
    "article",
    { class: "card", "aria-label": `Model ${one.id}` },
    make("h3", {}, one.id, ...(isDefault ? [" ", make("span", { class: "rank best" }, "default")] : [])),
    make("p", { class: "hint", title: one.fingerprint }, `${one.soup} on ${one.base} · ${one.backend}, ${one.device}, ${one.dtype} · ${shortFingerprint(one.fingerprint)} · at most ${one.limits.max_input_tokens} tokens a window`),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Heads of ${one.id}` },
      make("table", {}, make("thead", {}, make("tr", {}, ...columns)), make("tbody", {}, ...rows))),
    ...(one.ingredients.length ? [make("h4", {}, "Ingredients"), coefficients(one.ingredients.map((part) => [part.name, part.coefficient]))] : []),
  );
}

/** [name, coefficient] of each ingredient, as text and as bars. */
export function coefficients(ingredients) {
  const largest = Math.max(...ingredients.map(([, coefficient]) => Math.abs(coefficient)));
  return make(
    "ul",
    { class: "coefficients" },
    ...ingredients.map(([name, coefficient]) => {
      const bar = make("span", { class: coefficient < 0 ? "bar negative" : "bar positive", "aria-hidden": "true" });
      bar.style.setProperty("--share", largest ? Math.abs(coefficient) / largest : 0);
      return make("li", {}, make("span", { class: "name" }, name), bar, make("span", {}, coefficient.toFixed(3)));
    }),
  );
}
