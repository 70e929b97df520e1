// Soups with coefficients and history, behind the admin key, which stays in its input.

import { call } from "./api.js";
import { byId, make, shortFingerprint } from "./dom.js";
import { coefficients } from "./models.js";
import { showError } from "./result.js";

const ACTIONS = ["activate", "shadow", "rollback"];

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
    const done = await attempt(`v1/soups/${encodeURIComponent(fingerprint)}/${action}`, "POST");
    if (!done) return;
    await list();
    byId("soups-notice").textContent = `${action}: ${shortFingerprint(fingerprint)}, done.`;
    changed();
  });
}

async function attempt(path, method) {
  byId("soups-error").replaceChildren();
  byId("soups-notice").textContent = "";
  try {
    return await call(path, { key: byId("admin-key").value, method });
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
  place.append(...answer.soups.map(soup));
  if (answer.history?.length) {
    place.append(make("h3", {}, "History"), make("ol", { class: "history" }, ...answer.history.map((one) => make("li", {}, told(one)))));
  }
}

function soup(one) {
  const buttons = ACTIONS.map((action) =>
    make("button", { type: "button", "data-action": action, "data-fingerprint": one.fingerprint, "aria-label": `${action} ${one.name ?? shortFingerprint(one.fingerprint)}` }, action));
  return make(
    "article",
    { class: "card", "aria-label": `Soup ${one.fingerprint}` },
    make("h3", {}, one.name ?? one.soup ?? "soup", " ", make("span", { class: one.state === "active" ? "rank best" : "rank" }, one.state ?? "")),
    make("p", { class: "hint", title: one.fingerprint }, shortFingerprint(one.fingerprint)),
    coefficients(one.ingredients ?? []),
    make("div", { class: "actions" }, ...buttons),
  );
}

const told = (entry) => Object.entries(entry).map(([name, value]) => `${name} ${value}`).join(", ");
