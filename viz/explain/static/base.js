"use strict";
/** The one global name. Every file adds to it. */
globalThis.explain = {};

((explain) => {
  const SVG = "http://www.w3.org/2000/svg";

  /** Sets attributes: `text`, `class`, `on: {event: handler}`, false and null for absent ones. */
  const dress = (element, attributes) => {
    for (const [name, value] of Object.entries(attributes ?? {})) {
      if (name === "text") element.textContent = value;
      else if (name === "on") for (const [type, handler] of Object.entries(value)) element.addEventListener(type, handler);
      else if (value !== null && value !== undefined && value !== false)
        element.setAttribute(name, value === true ? "" : String(value));
    }
    return element;
  };

  /** An HTML element with attributes and children (elements or texts). */
  explain.create = (tag, attributes, ...children) => {
    const element = dress(document.createElement(tag), attributes);
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  };

  /** An SVG element. */
  explain.svg = (tag, attributes, ...children) => {
    const element = dress(document.createElementNS(SVG, tag), attributes);
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  };

  explain.byId = (id) => document.getElementById(id);

  /** Empties an element and fills it again. */
  explain.fill = (element, ...children) => {
    element.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
    return element;
  };

  explain.reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  /** "light" or "dark": what is shown now. */
  explain.theme = () => {
    const chosen = document.documentElement.dataset.theme;
    if (chosen === "light" || chosen === "dark") return chosen;
    return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  };

  /** The value of a CSS variable such as --value. */
  explain.variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
})(globalThis.explain);
