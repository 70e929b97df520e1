// Soups with coefficients and history, behind the admin key, which stays in its input.

import { call } from "./api.js";
import { byId, make, shortFingerprint, signed } from "./dom.js";
import { coefficients } from "./models.js";
import { showError } from "./result.js";

const USABLE = ["ready", "stored", "shadow"];
const AGAIN_MS = 1000;
const model = () => (byId("soups-model").length > 1 ? byId("soups-model").value : undefined);
const about = () => (model() ? `?model=${encodeURIComponent(model())}` : "");
let shown = ""; // the answer on the page, so that only another one is drawn: focus stays where it is

/** Shows the section where this server has soups to administer; `changed` runs after each change. */
export async function prepareSoups(changed) {
  const { paths } = await call("openapi.json");
  if (!paths["/v1/soups"]) return;
  byId("soups").hidden = false;
  byId("admin").addEventListener("submit", (event) => {
    event.preventDefault();
    list();
  });
  byId("soups-model").addEventListener("change", list);
  byId("new-soup").addEventListener("input", showSum);
  byId("new-soup").addEventListener("submit", async (event) => {
    event.preventDefault();
    const made = await attempt("v1/soups", "POST", { model: model(), coefficients: Object.fromEntries(entered()) });
    if (!made) return;
    await list();
    byId("soups-notice").textContent = `${shortFingerprint(made.fingerprint)} is ${made.state}.`;
  });
  byId("soups").querySelector(".list").addEventListener("click", async (event) => {
    const { action, fingerprint } = event.target.dataset;
    if (!action) return;
    if (!(await attempt(`v1/soups/${encodeURIComponent(fingerprint)}/${action}${about()}`, "POST"))) return;
    await list();
    byId("soups-notice").textContent = `Done: ${event.target.textContent.toLowerCase()}.`;
    byId("soups").querySelector("h2").focus(); // the button that had the focus is gone
    changed();
  });
}

async function attempt(path, method, body) {
  byId("soups-error").replaceChildren();
  byId("soups-notice").textContent = "";
  try {
    return await call(path, { key: byId("admin-key").value.trim(), method, body });
  } catch (error) {
    showError(byId("soups-error"), error.info ?? { message: String(error) });
    return null;
  }
}

async function list() {
  const answer = await attempt(`v1/soups${about()}`, "GET");
  draw(answer);
  if (answer) byId("soups-notice").textContent = `${answer.soups.length} soups of ${answer.model}.`;
}

function draw(answer) {
  if (JSON.stringify(answer) === shown) return;
  shown = JSON.stringify(answer);
  const place = byId("soups").querySelector(".list");
  place.replaceChildren();
  byId("new-soup").hidden = true;
  if (!answer) return;
  offerIngredients(answer);
  if (answer.soups.some((one) => one.state === "forming")) setTimeout(follow, AGAIN_MS);
  place.append(...answer.soups.map((one) => soup(one, answer)));
  place.append(make("h3", {}, "History"), make("ol", { class: "history", reversed: "" }, ...[...answer.history].reverse().map(event)));
}

/** Looks again while a soup is being formed, and says when it is no more. */
async function follow() {
  const key = byId("admin-key").value.trim();
  const answer = await call(`v1/soups${about()}`, { key }).catch(() => null);
  if (!answer) return; // whoever asks for the list again is told why
  const wait = shown === JSON.stringify(answer);
  draw(answer);
  if (wait) setTimeout(follow, AGAIN_MS);
  else byId("soups-notice").textContent = answer.soups.map((one) => `${one.soup} ${one.state}`).join(", ");
}

/** Inputs for the ingredients, filled as in the active soup; those that are there keep what they hold. */
function offerIngredients({ soups, active }) {
  const names = [...new Set(soups.flatMap((one) => Object.keys(one.coefficients)))];
  const now = soups.find((one) => one.fingerprint === active)?.coefficients ?? {};
  const place = byId("new-soup").querySelector(".grid");
  const before = [...place.querySelectorAll("input")].map((one) => one.name);
  if (JSON.stringify(before) !== JSON.stringify(names)) {
    const input = (name) => make("input", { name, type: "number", min: 0, max: 1, step: "any", value: now[name] ?? 0 });
    place.replaceChildren(...names.map((name) => make("label", {}, name, input(name))));
  }
  byId("new-soup").hidden = names.length === 0;
  showSum();
}

const entered = () => [...byId("new-soup").querySelectorAll("input")].map((one) => [one.name, Number(one.value)]);

function showSum() {
  const sum = entered().reduce((total, [, weight]) => total + weight, 0);
  byId("new-soup-sum").textContent = `The coefficients add up to ${Number(sum.toFixed(6))}${Math.abs(sum - 1) < 1e-6 ? "." : "; they must add up to 1."}`;
}

function soup(one, { active, previous }) {
  const named = `${one.soup}, ${shortFingerprint(one.fingerprint)}`;
  const button = (action, fingerprint, words) =>
    make("button", { type: "button", "data-action": action, "data-fingerprint": fingerprint, "aria-label": `${words}: ${named}` }, words);
  const isActive = one.fingerprint === active;
  return make(
    "article",
    { class: "card", "aria-label": `Soup ${named}` },
    make("h3", {}, one.soup, " ", make("span", { class: isActive ? "rank best" : "rank" }, one.state)),
    make("p", { class: "hint", title: one.fingerprint }, `${shortFingerprint(one.fingerprint)}, made ${moment(one.created_ns)}`),
    ...(one.trouble ? [make("p", { class: "error" }, one.trouble)] : []),
    coefficients(Object.entries(one.coefficients)),
    ...(one.shadow ? [report(one.shadow)] : []),
    make(
      "div",
      { class: "actions" },
      ...(USABLE.includes(one.state) ? [button("activate", one.fingerprint, "Activate")] : []),
      ...(USABLE.includes(one.state) && one.state !== "shadow" ? [button("shadow", one.fingerprint, "Shadow")] : []),
      ...(one.state === "shadow" ? [button("shadow", active, "End the shadow")] : []),
      ...(isActive && previous ? [button("rollback", one.fingerprint, "Roll back")] : []),
    ),
  );
}

function report({ responses, skipped, failed, rank_correlation: correlation, drift_psi: drift, largest_change: change }) {
  const figures = [
    `shadowed ${responses} responses (${skipped} skipped, ${failed} failed)`,
    ...(correlation === null ? [] : [`rank correlation ${signed(correlation)}`]),
    ...(drift === null ? [] : [`drift PSI ${drift.toFixed(3)}`]),
    ...(change === null ? [] : [`largest change ${signed(change)}`]),
  ];
  return make("p", { class: "hint" }, `${figures.join(", ")}.`);
}

const event = (one) => make("li", {}, `${moment(one.time_ns)}: ${one.action} ${shortFingerprint(one.fingerprint)}, by ${one.by}`);

const moment = (ns) => new Date(ns / 1e6).toLocaleString();
