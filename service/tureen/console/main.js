// Puts the page together. Nothing is stored: keys live in their inputs, a request in the link.

import { call } from "./api.js";
import { byId, copy, make } from "./dom.js";
import { watch } from "./live.js";
import { showModels } from "./models.js";
import { EXAMPLE, mark, offerModels, prepareLists, readState, scoreRequest, unmark, writeState } from "./request.js";
import { clear, show, showError } from "./result.js";
import { curlOf, linkOf, pythonOf, stateOf } from "./share.js";
import { prepareSoups } from "./soups.js";

let models = [];
let asked = 0; // only the answer to the latest question is shown

const key = () => byId("api-key").value.trim();
const notice = byId("notice");

async function loadModels() {
  try {
    const answer = await call("v1/models", { key: key() });
    models = answer.models;
    offerModels(models, answer.default_model);
    showModels(answer);
  } catch ({ info, message }) {
    byId("serving").textContent = info?.message ?? message;
    if (info?.code === "unauthenticated") byId("options").open = true;
    if (info?.retryable) setTimeout(loadModels, 1000 * (info.retry_after_s ?? 1)); // it still loads
  }
}

async function score() {
  const question = ++asked;
  const state = readState();
  const result = byId("result");
  unmark();
  result.setAttribute("aria-busy", "true");
  byId("summary").textContent = "Scoring…";
  try {
    const answer = await call("v1/score", { body: scoreRequest(state), key: key() });
    if (question !== asked) return;
    show(state.responses, answer, models.find((one) => one.id === answer.model));
    bringIntoView(byId("result"));
  } catch (error) {
    if (question !== asked) return;
    clear();
    byId("summary").textContent = "Nothing was scored.";
    showError(byId("error"), error.info ?? { message: String(error) });
    offerToGo(mark(error.info?.field));
  } finally {
    if (question === asked) result.removeAttribute("aria-busy");
  }
}

/** Below the error: a way to the field that it names. */
function offerToGo(field) {
  if (!field) return;
  const go = make("button", { type: "button" }, `Go to ${field.labels[0].firstChild.textContent.trim()}`);
  go.addEventListener("click", () => field.focus());
  byId("error").firstChild.append(go);
  go.scrollIntoView({ block: "nearest" });
}

function bringIntoView(section) {
  const { top } = section.getBoundingClientRect();
  if (top < 0 || top > 0.7 * innerHeight) section.scrollIntoView();
}

function load(state, told) {
  writeState(state);
  asked += 1;
  clear();
  byId("result").removeAttribute("aria-busy");
  byId("summary").textContent = "Nothing is scored yet. Press Score, or Ctrl + Enter in a text field.";
  notice.textContent = told;
}

function loadFragment() {
  try {
    const state = stateOf(location.hash);
    if (state) load(state, "Filled in from the link.");
    return state !== null;
  } catch (error) {
    notice.textContent = error.message;
    return false;
  }
}

prepareLists();
load(EXAMPLE, "");
loadFragment();
addEventListener("hashchange", loadFragment);
byId("request").addEventListener("submit", (event) => {
  event.preventDefault();
  score();
});
byId("request").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    score();
  }
});
byId("api-key").addEventListener("change", loadModels);
byId("example").addEventListener("click", () => load(EXAMPLE, "The example is filled in."));
byId("link").addEventListener("click", () => {
  const link = linkOf(readState());
  history.replaceState(null, "", link);
  copy(link, "Link", notice);
});
byId("curl").addEventListener("click", () => copy(curlOf(readState(), key() !== ""), "curl", notice));
byId("python").addEventListener("click", () => copy(pythonOf(readState(), key() !== ""), "Python", notice));

loadModels();
prepareSoups(loadModels).catch(() => {}); // without its description a server has no soups to show
watch();
