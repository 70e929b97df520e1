// Soups with coefficients and history, behind the admin key, which stays in its input.

import { call } from "./api.js";
import { byId, make, shortFingerprint, signed } from "./dom.js";
import { coefficients } from "./models.js";
import { showError } from "./result.js";

const USABLE = ["ready", "stored", "shadow"];

/** Shows the section where this server has soups to administer; `changed` runs after each change. */
export async function prepareSoups(changed) {
  const { paths } = await call("openapi.json");
  if (!paths["/v1/soups"]) return;
  byId("soups").hidden = false;
  byId("admin").addEventListener("submit", (event) => {
    event.preventDefault();
    list();
  });
  byId("soups").querySelector(".list").addEventListener("click", async (event) => {
    const { action, fingerprint } = event.target.dataset;
    if (!action) return;
    if (!(await attempt(`v1/soups/${encodeURIComponent(fingerprint)}/${action}`, "POST"))) return;
    await list();
    byId("soups-notice").textContent = `Done: ${event.target.textContent.toLowerCase()}.`;
    byId("soups").querySelector("h2").focus(); // the button that had the focus is gone
    changed();
  });
}

async function attempt(path, method) {
  byId("soups-error").replaceChildren();
  byId("soups-notice").textContent = "";
  try {
    return await call(path, { key: byId("admin-key").value.trim(), method });
  } catch (error) {
    showError(byId("soups-error"), error.info ?? { message: String(error) });
    return null;
  }
}

async function list() {
  const place = byId("soups").querySelector(".list");
  const answer = await attempt("v1/soups", "GET");
  place.replaceChildren();
  if (!answer) return;
  byId("soups-notice").textContent = `${answer.soups.length} soups of ${answer.model}.`;
  place.append(...answer.soups.map((one) => soup(one, answer)));
  place.append(make("h3", {}, "History"), make("ol", { class: "history", reversed: "" }, ...[...answer.history].reverse().map(event)));
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
