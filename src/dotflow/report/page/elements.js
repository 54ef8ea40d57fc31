"use strict";
// Draws a page from the JSON objects that docs/run-as-json.md describes. A view returns the elements for an object, and
// `show` changes the page to match them: what is open, scrolled, focused or selected stays so.

const embedded = document.getElementById("data"); // of a report
const ROOT = embedded ? null : new URL(".", document.currentScript.src).href; // of `dotflow ui`

// Elements: texts go in as text only, so nothing that a run says is markup.

// Characters that a browser does not show, or that reorder the text around them.
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const ESCAPES = /\x1b\[[0-9;?]*[A-Za-z]/g; // colours and the like of a terminal
const escapeChar = (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
const visible = (text) => String(text).replace(ESCAPES, "").replace(INVISIBLE, escapeChar);
const isNothing = (value) => value === null || value === undefined || value === false || value === "";

// Returns an element: h("p.name", { id: "a" }, child, [child, child]). What is nothing is left out.
const maker = (make) => (tag, attributes, ...children) => {
  const [name, ...classes] = tag.split(".");
  const element = make(name);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (key === "style") Object.entries(value).forEach((pair) => element.style.setProperty(...pair));
    else if (!isNothing(value)) element.setAttribute(key, value);
  }
  for (const child of children.flat(Infinity)) {
    if (!isNothing(child)) element.append(child instanceof Node ? child : visible(child));
  }
  return element;
};
const h = maker((name) => document.createElement(name));
const s = maker((name) => document.createElementNS("http://www.w3.org/2000/svg", name));

// Makes an element like a fresh one. Children with an id are found again wherever they stand.
function patch(element, fresh) {
  if (element.isEqualNode(fresh)) return;
  if (element.nodeType === Node.TEXT_NODE) {
    // Text that only grows keeps what is selected in it.
    if (fresh.data.startsWith(element.data)) element.appendData(fresh.data.slice(element.data.length));
    else element.data = fresh.data;
    return;
  }
  patchAttributes(element, fresh);
  const byId = new Map([...element.children].filter((child) => child.id).map((child) => [child.id, child]));
  if (byId.size) { // what goes, goes first: an element that is moved loses the focus
    const kept = new Set([...fresh.children].map((child) => child.id));
    byId.forEach((child, id) => kept.has(id) || child.remove());
  }
  let next = element.firstChild;
  for (const child of [...fresh.childNodes]) {
    const known = child.id ? byId.get(child.id) : next;
    if (known?.nodeName === child.nodeName && (known.id ?? "") === (child.id ?? "")) {
      if (known === next) next = next.nextSibling;
      else element.insertBefore(known, next);
      patch(known, child);
    } else {
      element.insertBefore(child, next);
    }
  }
  for (let rest = next; rest; rest = next) {
    next = rest.nextSibling;
    rest.remove();
  }
}

function patchAttributes(element, fresh) {
  const isKept = (name) => name === "style" || (name === "open" && element.nodeName === "DETAILS");
  for (const { name } of [...element.attributes]) {
    if (!fresh.hasAttribute(name) && !isKept(name)) element.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (element.getAttribute(name) !== value && !isKept(name)) element.setAttribute(name, value);
  }
  const styles = [element, fresh].map((each) => each.getAttribute("style"));
  if (styles[0] !== styles[1]) element.style.cssText = fresh.style.cssText;
}
