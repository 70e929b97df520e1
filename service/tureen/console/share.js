// A request as a link (in the fragment, which no server sees), as curl, as Python. Never a key.

import { scoreRequest } from "./request.js";

const PREFIX = "#request=";

export function linkOf(state) {
  return location.href.split("#")[0] + PREFIX + toBase64(JSON.stringify(state));
}

/** The state in a fragment, null where there is none; raises when it is not one of ours. */
export function stateOf(fragment) {
  if (!fragment.startsWith(PREFIX)) return null;
  try {
    const state = JSON.parse(fromBase64(fragment.slice(PREFIX.length)));
    const { model, prompt, context, responses, options } = state;
    const texts = [prompt, ...context, ...responses, options.aggregation, options.truncate, model ?? ""];
    if (!texts.every((text) => typeof text === "string") || !responses.length) throw new Error();
    if (!Number.isFinite(options.penalty) && options.penalty !== "") throw new Error();
    return state;
  } catch {
    throw new Error("The link holds no request of this console: it is cut off, or from another version.");
  }
}

export function curlOf(state, withKey) {
  const body = JSON.stringify(scoreRequest(state), null, 1);
  const key = withKey ? `  -H "Authorization: Bearer $TUREEN_API_KEY" \\\n` : "";
  return `curl -sS '${new URL("v1/score", document.baseURI)}' \\\n  -H 'Content-Type: application/json' \\\n${key}  -d '${body.replaceAll("'", "'\\''")}'\n`;
}

export function pythonOf(state, withKey) {
  const { model, prompt, context, responses, options } = state;
  const written = Object.entries({ model, ...options, uncertainty: true })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `        ${name}=${value === true ? "True" : JSON.stringify(value)},\n`);
  const list = (texts) => `[${texts.map((text) => `\n            ${JSON.stringify(text)},`).join("")}${texts.length ? "\n        " : ""}]`;
  const address = new URL(".", document.baseURI).href.replace(/\/$/, "");
  const key = withKey ? ', api_key=os.environ["TUREEN_API_KEY"]' : "";
  return `${withKey ? "import os\n\n" : ""}from tureen import RewardClient

with RewardClient("${address}"${key}) as client:
    scores = client.score(
        ${JSON.stringify(prompt)},
        ${list(responses)},
        context=${list(context)},
${written.join("")}    )
for score in scores:
    print(score.reward, {name: head.calibrated for name, head in score.heads.items()})
`;
}

function toBase64(text) {
  const bytes = new TextEncoder().encode(text);
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function fromBase64(text) {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
}
