// State: what is shown, all of it in the address behind the #, so that a link shows the same to others.

import type { Axis } from "./source";

export interface State {
  runs: string[];
  axis: Axis;
  /** Of the running mean. */
  window: number;
  log: boolean;
  from: number | null;
  to: number | null;
  /** Which metrics have a panel: those whose names have this in them. */
  metrics: string;
  /** Whose values are shown, of runs that have it; null: the lowest. */
  rank: number | null;
  /** The one panel that is large. */
  large: string;
  filter: string;
  sort: string;
  down: boolean;
  /** Settings that are columns of the table; null: those that differ. */
  columns: string[] | null;
  wide: boolean;
  machine: boolean;
}

export const EMPTY: State = {
  runs: [],
  axis: "step",
  window: 1,
  log: false,
  from: null,
  to: null,
  metrics: "",
  rank: null,
  large: "",
  filter: "",
  sort: "started",
  down: true,
  columns: null,
  wide: false,
  machine: false,
};

export function parse(hash: string): State {
  const told = new URLSearchParams(hash.replace(/^#/, ""));
  const place = (name: string) => {
    const text = told.get(name);
    return text === null || text === "" || !Number.isFinite(Number(text)) ? null : Number(text);
  };
  const axis = told.get("x");
  const sort = told.get("sort") ?? "";
  return {
    runs: [...new Set(told.getAll("run"))].slice(0, 100),
    axis: axis === "epoch" || axis === "time" ? axis : "step",
    window: Math.min(100_001, Math.max(1, Math.round(place("window") ?? 1))),
    log: told.has("log"),
    from: place("from"),
    to: place("to"),
    metrics: told.get("metrics") ?? "",
    rank: /^\d{1,8}$/.test(told.get("rank") ?? "") ? Number(told.get("rank")) : null,
    large: told.get("large") ?? "",
    filter: told.get("filter") ?? "",
    sort: sort.replace(/^-/, "") || EMPTY.sort,
    down: sort ? sort.startsWith("-") : EMPTY.down,
    columns: told.has("column") ? told.getAll("column").filter(Boolean) : null,
    wide: told.has("wide"),
    machine: told.has("machine"),
  };
}

export function format(state: State): string {
  const told = new URLSearchParams();
  for (const run of state.runs) told.append("run", run);
  if (state.axis !== "step") told.set("x", state.axis);
  if (state.window > 1) told.set("window", `${state.window}`);
  if (state.log) told.set("log", "");
  if (state.from !== null) told.set("from", `${state.from}`);
  if (state.to !== null) told.set("to", `${state.to}`);
  if (state.rank !== null) told.set("rank", `${state.rank}`);
  for (const name of ["metrics", "large", "filter"] as const) if (state[name]) told.set(name, state[name]);
  if (state.sort !== EMPTY.sort || state.down !== EMPTY.down) told.set("sort", `${state.down ? "-" : ""}${state.sort}`);
  if (state.columns) for (const column of state.columns.length ? state.columns : [""]) told.append("column", column);
  if (state.wide) told.set("wide", "");
  if (state.machine) told.set("machine", "");
  return told.toString();
}
