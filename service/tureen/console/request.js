// The form: its fields, and the request they make. `state` is what a link carries.

import { byId, make, ordinal } from "./dom.js";

export const EXAMPLE = {
  prompt: "Who painted the Night Watch, and when?",
  context: ["The Night Watch is a 1642 painting by Rembrandt van Rijn. It is in the Rijksmuseum."],
  responses: [
    "The Night Watch is a 1642 painting by Rembrandt van Rijn. It is in the Rijksmuseum.",
    "The Night Watch is a 1642 painting by Rembrandt van Rijn. Vermeer restored it.",
  ],
  options: { aggregation: "mean", penalty: 0.5, truncate: "never" },
};
const KINDS = {
  context: { label: (i) => `Passage ${i + 1}`, least: 0, rows: 3 },
  responses: { label: (i) => `Response ${ordinal(i)}`, least: 1, rows: 2 },
};

const form = () => byId("request");

/** The values of the form, without keys. */
export function readState() {
  const fields = form().elements;
  return {
    model: fields.model.value || undefined,
    prompt: fields.prompt.value,
    context: texts("context"),
    responses: texts("responses"),
    options: {
      aggregation: fields.aggregation.value,
      penalty: fields.penalty.value === "" ? fields.penalty.value : Number(fields.penalty.value),
      truncate: fields.truncate.value,
    },
  };
}

export function writeState(state) {
  const fields = form().elements;
  fields.prompt.value = state.prompt;
  for (const kind of Object.keys(KINDS)) {
    list(kind).replaceChildren();
    for (const text of state[kind]) append(kind, text);
  }
  if (state.model) choose(fields.model, state.model);
  choose(fields.aggregation, state.options.aggregation);
  fields.penalty.value = state.options.penalty;
  choose(fields.truncate, state.options.truncate);
  unmark();
}

/** The body of POST /v1/score. */
export function scoreRequest({ model, prompt, context, responses, options }) {
  return { model, samples: [{ prompt, context, responses }], uncertainty: true, ...options };
}

/** Fills the models to choose from, keeping the choice. */
export function offerModels(models, first) {
  const ids = models.map((one) => one.id);
  for (const select of [form().elements.model, byId("soups-model")]) {
    const chosen = select.value || first;
    select.replaceChildren(...[...new Set([...ids, chosen])].map((id) => make("option", { value: id }, id)));
    select.value = chosen;
  }
  byId("soups-model").parentElement.hidden = ids.length < 2;
}

export function prepareLists() {
  for (const kind of Object.keys(KINDS)) {
    byId(kind).querySelector(".add").addEventListener("click", () => append(kind, "").focus());
  }
}

/** Marks the field that an error names, such as responses[1]; null where there is none. */
export function mark(field) {
  unmark();
  const found = /^(?:samples\[0\]\.)?(prompt|context|responses)(?:\[(\d+)\])?/.exec(field ?? "");
  const [, name, index] = found ?? [null, field];
  const target = name in KINDS ? list(name).querySelectorAll("textarea")[index ?? 0] : form().elements[name];
  if (!(target instanceof HTMLElement)) return null;
  target.closest("details")?.setAttribute("open", "");
  target.setAttribute("aria-invalid", "true");
  target.setAttribute("aria-errormessage", "error");
  return target;
}

export function unmark() {
  for (const field of form().querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-errormessage");
  }
}

const list = (kind) => byId(kind).querySelector(".passages");
const texts = (kind) => [...list(kind).querySelectorAll("textarea")].map((area) => area.value);

function append(kind, text) {
  const area = make("textarea", { rows: KINDS[kind].rows });
  area.value = text;
  const remove = make("button", { type: "button", class: "remove" }, "Remove");
  const row = make("div", { class: "passage" }, make("label"), remove, area);
  remove.addEventListener("click", () => {
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    relabel(kind);
    (next?.querySelector("textarea") ?? byId(kind).querySelector(".add")).focus();
  });
  list(kind).append(row);
  relabel(kind);
  return area;
}

function relabel(kind) {
  const { label, least } = KINDS[kind];
  const rows = [...list(kind).children];
  rows.forEach((row, i) => {
    const [name, remove, area] = row.children;
    area.id = `${kind}-${i}`;
    name.htmlFor = area.id;
    name.textContent = label(i);
    remove.setAttribute("aria-label", `Remove ${label(i)}`);
    remove.hidden = rows.length <= least;
  });
}

function choose(select, value) {
  if (![...select.options].some((one) => one.value === value)) {
    select.append(make("option", { value }, value)); // what it is, the server will say
  }
  select.value = value;
}
