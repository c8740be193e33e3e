// Elements are made here; words from the wire only ever become text.
const SVG = "http://www.w3.org/2000/svg";

/** Make an HTML element: attributes, then children (texts or elements). */
export function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

/** Make an SVG element. */
export function draw(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Replace the children of a node; whoever stood on a link in it stands on the same link afterwards. */
export function swap(node, ...children) {
  const held = node.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  node.replaceChildren(...children);
  if (held) node.querySelector(`a[href="${CSS.escape(held)}"]`)?.focus();
}
