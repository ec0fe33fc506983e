// Table: the runs, filtered and sorted, with the settings that differ.

import { el, say } from "./dom";
import { duration, moment, number, runName, setting } from "./format";
import { Filter } from "./run_filter";
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
const MOST_TICKED = 100;

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

/** Whether a run meets the filter: by its columns, its settings, and all of its texts. */
export function meets(run: Run, filter: Filter): boolean {
  if (!filter.words.length) return true;
  const known = flat(run.config);
  const named = new Map<string, unknown>([...known].map(([name, value]) => [name.toLowerCase(), value]));
  for (const [name, value] of known) named.set(`config.${name.toLowerCase()}`, value);
  for (const column of [...COLUMNS, ...LAST]) named.set(column.key, column.value(run));
  named.set("alerts", run.alerts);
  named.set("host", run.host);
  const told = [...known].map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  const texts = [run.run_id, run.state, run.model_id, run.host, run.first_alert, ...told].filter((text): text is string => text != null);
  return filter.meets(named, texts.join("\n"));
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
  private titles: HTMLTableCellElement[] = [];
  private readonly all = el("input", { type: "checkbox", "aria-label": "All that are listed", title: "All that are listed, up to 100" }, [], {
    change: () => this.events.all(this.all.checked ? this.shown.map((run) => run.run_id).slice(0, MOST_TICKED) : []),
  });

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
    const filter = new Filter(state.filter);
    this.shown = runs.filter((run) => meets(run, filter)).sort((a, b) => compare(key.value(a), key.value(b), state.down) || a.run_id.localeCompare(b.run_id));
    this.drawHead(columns, state);
    const kept = new Set(this.shown.map((run) => run.run_id));
    for (const [run, row] of this.rows) if (!kept.has(run)) { row.remove(); this.rows.delete(run); }
    this.shown.forEach((run, at) => {
      const row = this.row(run.run_id);
      this.fill(row, run, columns, state, colourOf(run.run_id));
      if (this.body.children[at] !== row) this.body.insertBefore(row, this.body.children[at] ?? null);
    });
    this.empty.hidden = this.shown.length > 0;
    say(this.empty, runs.length ? filter.refusal || "No run meets the filter." : "No runs yet: the first appears here as it begins.");
  }

  /** Move the keyboard's place by so many rows. */
  move(by: number): void {
    const rows = [...this.body.children] as HTMLElement[];
    const at = rows.findIndex((row) => row.contains(document.activeElement));
    const next = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + by))];
    next?.focus();
  }

  /** The buttons stay those that they were: a press that began on one ends there, whatever is drawn meanwhile. */
  private drawHead(columns: Column[], state: State): void {
    const ids = this.shown.map((run) => run.run_id).slice(0, MOST_TICKED);
    this.all.checked = ids.length > 0 && ids.every((run) => state.runs.includes(run));
    const keys = JSON.stringify(columns.map((column) => column.key));
    if (keys !== this.headed) {
      this.headed = keys;
      this.titles = columns.map((column) => {
        const label = column.key === "alerts" ? "alerts" : undefined;
        const button = el("button", { type: "button", class: "plain", "aria-label": label }, [], { click: () => this.events.sort(column.key) });
        return el("th", { class: column.isNumber ? "n" : undefined, scope: "col" }, [button]);
      });
      this.head.replaceChildren(el("th", { class: "check" }, [this.all]), ...this.titles);
    }
    columns.forEach((column, at) => {
      const isSorted = column.key === state.sort;
      const title = this.titles[at]!;
      say(title.firstChild as HTMLElement, `${column.title}${isSorted ? (state.down ? " ↓" : " ↑") : ""}`);
      if (isSorted) title.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else title.removeAttribute("aria-sort");
    });
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
      const check = el("input", { type: "checkbox", "aria-label": `Show ${run}`, tabindex: "-1" }, [], { change: () => this.events.toggle(run) });
      row.append(el("td", { class: "check" }, [check]));
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
    const check = row.querySelector("input")!;
    check.checked = isChosen;
    check.style.accentColor = colour ?? "";
    while (row.cells.length > columns.length + 1) row.deleteCell(-1);
    while (row.cells.length < columns.length + 1) row.insertCell();
    columns.forEach((column, at) => {
      const cell = row.cells[at + 1]!;
      say(cell, column.text(run));
      const classes = [column.isNumber ? "n" : column.key === "run" ? "name" : ""];
      cell.title = column.key === "run" ? run.run_id : column.text(run);
      if (column.key === "state") {
        classes.push("state", `is-${/^[a-z]+$/.test(run.state) ? run.state : "unknown"}`);
        cell.title = run.reason ?? run.state;
      }
      if (column.key === "alerts" && run.alerts) {
        classes.push(run.alert_level === "INFO" || run.alert_level === "WARNING" ? "warn" : "bad");
        cell.title = `${run.alert_level}: first ${run.first_alert}`;
      }
      if (column.key === "loss" && LOSS(run) === Infinity) classes.push("bad");
      cell.className = classes.filter(Boolean).join(" ");
    });
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
