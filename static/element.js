// Elements, made without markup: text only ever becomes text nodes.

/** Makes an element. `holds` are its text and children. */
export function element(tag, className = "", ...holds) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...holds);
  return made;
}

/** Makes a box that may be wider than its place one that keys scroll too. `name` is read out where it has the focus. */
export function scrolling(box, name) {
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", name);
  return box;
}

/** Makes a button that does something. */
export function button(className, text, onClick) {
  const made = element("button", className, text);
  made.type = "button";
  made.addEventListener("click", onClick);
  return made;
}

/** Makes an element of SVG. */
export function drawn(tag, attributes, ...holds) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...holds);
  return made;
}
