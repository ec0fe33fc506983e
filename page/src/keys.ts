// Keys: what the keyboard does.

export const HELP: [string, string][] = [
  ["/", "filter the runs"],
  ["j k", "down, up in the list"],
  ["Space", "show the run, or not"],
  ["Enter", "show this run only"],
  ["x", "the next x-axis"],
  ["l", "logarithmic y-axis"],
  ["s S", "smoother, less so"],
  ["← →", "pan, where zoomed"],
  ["drag", "zoom into that part"],
  ["Shift+drag", "pan; so do the middle button and a wheel or two fingers sideways"],
  ["Ctrl+wheel", "zoom at the pointer; so do two fingers that pinch"],
  ["r", "whole curves again"],
  ["m", "what the machine measured"],
  ["t", "wide table"],
  ["?", "this list"],
];

export interface Commands {
  filter(): void;
  move(by: number): void;
  axis(): void;
  log(): void;
  machine(): void;
  whole(): void;
  wide(): void;
  help(): void;
  smooth(by: number): void;
  pan(by: number): void;
}

export function keys(to: Commands): void {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const target = event.target as HTMLElement;
    const isText = target instanceof HTMLInputElement && target.type !== "checkbox";
    if (isText) {
      if (event.key === "Escape") target.blur();
      return;
    }
    const commands: Record<string, () => void> = {
      "/": to.filter,
      j: () => to.move(1),
      k: () => to.move(-1),
      ArrowDown: () => to.move(1),
      ArrowUp: () => to.move(-1),
      ArrowLeft: () => to.pan(-0.25),
      ArrowRight: () => to.pan(0.25),
      x: to.axis,
      l: to.log,
      m: to.machine,
      r: to.whole,
      t: to.wide,
      s: () => to.smooth(1),
      S: () => to.smooth(-1),
      "?": to.help,
    };
    const isOfTable = target.closest("table") !== null || target === document.body;
    if (event.key.startsWith("Arrow") && (event.key === "ArrowUp" || event.key === "ArrowDown") && !isOfTable) return;
    const command = commands[event.key];
    if (command) {
      event.preventDefault();
      command();
    }
  });
}
