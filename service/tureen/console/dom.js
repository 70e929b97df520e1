// The page's pieces and numbers. Text enters as text nodes only, so it can never become markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** An element; attributes that are null are left out, children are nodes or text. */
export function make(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function draw(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Three digits after the point and always a sign, with a true minus. */
export function signed(value) {
  return (value < 0 ? "−" : "+") + Math.abs(value).toFixed(3);
}

export function count(value) {
  return value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });
}

export function shortFingerprint(fingerprint) {
  return fingerprint.length > 19 ? fingerprint.slice(0, 19) + "…" : fingerprint;
}

export const ordinal = (index) => String.fromCharCode(65 + (index % 26)) + (index < 26 ? "" : Math.floor(index / 26));

/** Copies text; where the browser does not allow it (plain http), shows it selected instead. */
export async function copy(text, what, notice) {
  try {
    await navigator.clipboard.writeText(text);
    notice.textContent = `${what} copied.`;
  } catch {
    const dialog = byId("copy");
    const area = dialog.querySelector("textarea");
    area.value = text;
    notice.textContent = `${what}: copy it from the window.`;
    dialog.showModal();
    area.select();
  }
}
