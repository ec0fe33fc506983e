// DOM: elements with texts; a text never becomes markup.

type Child = Node | string | null | undefined;
type Listeners = { [K in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[K]) => void };

export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string | boolean | undefined> = {},
  children: Child[] | string = [],
  on: Listeners = {},
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (typeof value === "string") made.setAttribute(name, value);
  }
  if (typeof children === "string") made.textContent = children;
  else made.append(...children.filter((child): child is Node | string => child != null));
  for (const [name, listener] of Object.entries(on)) made.addEventListener(name, listener as EventListener);
  return made;
}

/** Set the text, where it is another one. */
export function say(node: HTMLElement, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

/** A colour from the style sheet, of today's theme. */
export function themed(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
