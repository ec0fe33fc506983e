// Table: the runs, filtered and sorted, with the settings that differ.

import { el, say } from "./dom";
import { duration, moment, number, runName, setting } from "./format";
import type { Run } from "./source";
import type { State } from "./state";

interface Column {
  key: string;
  title: string;
  text(run: Run): string;
  /** What it is sorted by; undefined is last. */
  value(run: Run): number | string | undefined;
  isNumber?: boolean;
}

const LOSS = (run: Run): number | undefined => {
  if (typeof run.loss === "number") return run.loss;
  return run.loss === null || run.loss === undefined ? undefined : Infinity;
};

const COLUMNS: Column[] = [
  { key: "run", title: "run", text: (run) => runName(run.run_id), value: (run) => run.run_id },
  { key: "alerts", title: "▲", text: (run) => (run.alerts ? String(run.alerts) : ""), value: (run) => run.alerts || undefined, isNumber: true },
  { key: "loss", title: "loss", text: (run) => (run.loss == null ? "" : number(run.loss)), value: LOSS, isNumber: true },
  { key: "state", title: "state", text: (run) => run.state, value: (run) => run.state },
];
const LAST: Column[] = [
  { key: "took", title: "took", text: (run) => duration(run.seconds), value: (run) => run.seconds ?? undefined, isNumber: true },
  { key: "started", title: "started", text: (run) => moment(run.started_at), value: (run) => run.started_at },
  { key: "model", title: "model", text: (run) => run.model_id ?? "", value: (run) => run.model_id ?? undefined },
];
/** Settings that are shown where nobody chose. */
const SOME = 4;

/** The settings of a run by dotted names. */
export function flat(config: unknown, prefix = ""): Map<string, unknown> {
  const found = new Map<string, unknown>();
  if (config === null || typeof config !== "object" || Array.isArray(config)) return found;
  for (const [name, value] of Object.entries(config)) {
    if (value !== null && typeof value === "object" && !Array.isArray(value)) {
      for (const [key, inner] of flat(value, `${prefix}${name}.`)) found.set(key, inner);
    } else found.set(prefix + name, value);
  }
  return found;
}

/** Names of settings, those that differ between runs first. */
export function settings(runs: Run[]): { names: string[]; differing: Set<string> } {
  const known = new Map<string, Set<string>>();
  const counts = new Map<string, number>();
  for (const run of runs) {
    for (const [name, value] of flat(run.config)) {
      known.set(name, (known.get(name) ?? new Set()).add(JSON.stringify(value)));
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  }
  const differing = new Set([...known].filter(([name, values]) => values.size > 1 || counts.get(name)! < runs.length).map(([name]) => name));
  const names = [...known.keys()].sort((a, b) => Number(differing.has(b)) - Number(differing.has(a)) || a.localeCompare(b));
  return { names, differing };
}

/** Whether a run meets all words: a part of its texts, or `name=value`, `name<5`, `name>0.1`. */
export function meets(run: Run, filter: string): boolean {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return true;
  const known = flat(run.config);
  const named = new Map<string, unknown>([...known].map(([name, value]) => [name.toLowerCase(), value]));
  for (const column of [...COLUMNS, ...LAST]) named.set(column.key, column.value(run));
  named.set("alerts", run.alerts);
  const text = [run.run_id, run.state, run.model_id, run.host, run.first_alert, ...[...known].map(([name, value]) => `${name}=${setting(value)}`)]
    .join("\n")
    .toLowerCase();
  return words.every((word) => {
    const asked = /^([^<>=:]+)(<=|>=|[<>=:])(.+)$/.exec(word);
    if (!asked || !named.has(asked[1]!)) return text.includes(word);
    const [, name, sign, wanted] = asked as unknown as [string, string, string, string];
    const value = named.get(name);
    if (value === undefined) return false;
    if (sign === "=" || sign === ":") return setting(value).toLowerCase() === wanted || String(value).toLowerCase() === wanted;
    const [a, b] = [Number(value), Number(wanted)];
    return sign === "<" ? a < b : sign === ">" ? a > b : sign === "<=" ? a <= b : a >= b;
  });
}

export interface TableEvents {
  only(run: string): void;
  toggle(run: string): void;
  all(runs: string[]): void;
  sort(key: string): void;
  hover(run: string | null): void;
}

export class RunTable {
  readonly root: HTMLElement;
  shown: Run[] = [];
  columns: string[] = [];
  private readonly head = el("tr");
  private readonly body = el("tbody");
  private readonly rows = new Map<string, HTMLTableRowElement>();
  private readonly empty = el("p", { class: "dim pad", hidden: true });
  private headed = "";

  constructor(private readonly events: TableEvents) {
    const table = el("table", { class: "runs" }, [el("thead", {}, [this.head]), this.body]);
    this.root = el("div", { class: "scroll", tabindex: "-1" }, [table, this.empty]);
    this.body.addEventListener("mouseleave", () => events.hover(null));
  }

  draw(runs: Run[], state: State, colourOf: (run: string) => string | null): void {
    const { names, differing } = settings(runs);
    this.columns = (state.columns ?? names.filter((name) => differing.has(name)).slice(0, SOME)).filter((name) => names.includes(name));
    const columns = [...COLUMNS, ...this.columns.map(columnOf), ...LAST];
    const key = columns.find((column) => column.key === state.sort) ?? LAST[1]!;
    this.shown = runs.filter((run) => meets(run, state.filter)).sort((a, b) => compare(key.value(a), key.value(b), state.down) || a.run_id.localeCompare(b.run_id));
    this.drawHead(columns, state);
    const kept = new Set(this.shown.map((run) => run.run_id));
    for (const [run, row] of this.rows) if (!kept.has(run)) { row.remove(); this.rows.delete(run); }
    this.shown.forEach((run, at) => {
      const row = this.row(run.run_id);
      this.fill(row, run, columns, state, colourOf(run.run_id));
      if (this.body.children[at] !== row) this.body.insertBefore(row, this.body.children[at] ?? null);
    });
    this.empty.hidden = this.shown.length > 0;
    say(this.empty, runs.length ? "No run meets the filter." : "No runs yet: the first appears here as it begins.");
  }

  /** Move the keyboard's place by so many rows. */
  move(by: number): void {
    const rows = [...this.body.children] as HTMLElement[];
    const at = rows.findIndex((row) => row.contains(document.activeElement));
    const next = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + by))];
    next?.focus();
  }

  private drawHead(columns: Column[], state: State): void {
    const ids = this.shown.map((run) => run.run_id).slice(0, 100);
    const isAll = ids.length > 0 && ids.every((run) => state.runs.includes(run));
    const told = JSON.stringify([columns.map((column) => column.key), state.sort, state.down, isAll, ids.length]);
    if (told === this.headed) return;
    this.headed = told;
    const all = el("input", { type: "checkbox", "aria-label": "All that are listed", title: "All that are listed, up to 100" }, [], {
      change: () => this.events.all(isAll ? [] : this.shown.map((run) => run.run_id).slice(0, 100)),
    });
    all.checked = isAll;
    this.head.replaceChildren(
      el("th", { class: "check" }, [all]),
      ...columns.map((column) => {
        const isSorted = column.key === state.sort;
        const button = el("button", { type: "button", class: "plain" }, `${column.title}${isSorted ? (state.down ? " ↓" : " ↑") : ""}`, {
          click: () => this.events.sort(column.key),
        });
        if (column.key === "alerts") button.setAttribute("aria-label", "alerts");
        return el("th", { class: column.isNumber ? "n" : undefined, "aria-sort": isSorted ? (state.down ? "descending" : "ascending") : undefined, scope: "col" }, [button]);
      }),
    );
  }

  private row(run: string): HTMLTableRowElement {
    let row = this.rows.get(run);
    if (!row) {
      row = el("tr", { tabindex: "0" }, [], {
        click: (event) => {
          if (event.target instanceof HTMLInputElement) return;
          if (event.ctrlKey || event.metaKey || event.shiftKey) this.events.toggle(run);
          else this.events.only(run);
        },
        keydown: (event) => {
          if (event.key === " " || event.key === "Enter") {
            event.preventDefault();
            if (event.key === "Enter") this.events.only(run);
            else this.events.toggle(run);
          }
        },
        mouseenter: () => this.events.hover(run),
        focus: () => this.events.hover(run),
        blur: () => this.events.hover(null),
      });
      row.dataset.run = run;
      this.rows.set(run, row);
    }
    return row;
  }

  private fill(row: HTMLTableRowElement, run: Run, columns: Column[], state: State, colour: string | null): void {
    const isChosen = state.runs.includes(run.run_id);
    const told = JSON.stringify([isChosen, colour, ...columns.map((column) => column.text(run)), run.alert_level]);
    if (row.dataset.told === told) return;
    row.dataset.told = told;
    row.setAttribute("aria-selected", String(isChosen));
    const check = el("input", { type: "checkbox", "aria-label": `Show ${run.run_id}`, tabindex: "-1" }, [], { change: () => this.events.toggle(run.run_id) });
    check.checked = isChosen;
    if (colour) check.style.accentColor = colour;
    const cells = columns.map((column) => {
      const cell = el("td", { class: column.isNumber ? "n" : column.key === "run" ? "name" : undefined }, column.text(run));
      cell.title = column.key === "run" ? run.run_id : column.text(run);
      if (column.key === "state") {
        cell.classList.add("state", `is-${/^[a-z]+$/.test(run.state) ? run.state : "unknown"}`);
        cell.title = run.reason ?? run.state;
      }
      if (column.key === "alerts" && run.alerts) {
        cell.classList.add(run.alert_level === "INFO" || run.alert_level === "WARNING" ? "warn" : "bad");
        cell.title = `${run.alert_level}: first ${run.first_alert}`;
      }
      if (column.key === "loss" && LOSS(run) === Infinity) cell.classList.add("bad");
      return cell;
    });
    row.replaceChildren(el("td", { class: "check" }, [check]), ...cells);
  }
}

function columnOf(name: string): Column {
  const value = (run: Run) => flat(run.config).get(name);
  return {
    key: `config.${name}`,
    title: name,
    text: (run) => setting(value(run)),
    value: (run) => {
      const found = value(run);
      return found === undefined || found === null ? undefined : typeof found === "number" ? found : setting(found);
    },
    isNumber: true,
  };
}

function compare(a: number | string | undefined, b: number | string | undefined, down: boolean): number {
  if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined);
  const order = typeof a === "number" && typeof b === "number" ? a - b || 0 : String(a).localeCompare(String(b), undefined, { numeric: true });
  return down ? -order : order;
}
