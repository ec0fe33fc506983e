// The page: a list of runs, their curves side by side, what was found; all of its state in the address.

import { Charts } from "./charts";
import { el, say } from "./dom";
import { FindingList } from "./findings";
import { duration } from "./format";
import { moved } from "./gestures";
import { HELP, keys } from "./keys";
import { EmbeddedSource, explained, HttpSource, Unreachable, type About, type Axis, type Facts, type Run, type Source } from "./source";
import { format, parse, type State } from "./state";
import { RunTable, settings } from "./table";

const AXES: Axis[] = ["step", "epoch", "time"];
/** Of running means, by the place of the slider. */
const WINDOWS = [1, 3, 5, 11, 21, 51, 101, 201, 501, 1001];
const POLL_MS = 2000;
const SETTLED_MS = 200;
const MOST_RUNS = 100;
/** Those of many that are asked for first, so that something is soon there. */
const FIRST_RUNS = 4;

async function start(): Promise<void> {
  const data = document.getElementById("data");
  const source: Source = data ? await EmbeddedSource.open(data.textContent ?? "") : new HttpSource();
  const about = await source.about();
  let state = parse(location.hash || source.hash);
  let runs: Run[] = [];
  let facts: Facts[] = [];
  let axes: Axis[] = ["step"];

  let settling = 0;
  const write = (isStep: boolean) => {
    clearTimeout(settling);
    const hash = `#${format(state)}`;
    if (hash !== (location.hash || "#")) history[isStep ? "pushState" : "replaceState"](null, "", hash);
  };
  /** What is no step comes with each frame: it is in the address when it has settled, for browsers take few a second. */
  const set = (change: Partial<State>, isStep = true) => {
    const wasWhole = state.from === null && state.to === null;
    state = { ...state, ...change };
    if (isStep) write(true);
    else {
      const isZoom = wasWhole && change.from != null;
      if (isZoom) write(true); // so that the way back leads to the whole
      clearTimeout(settling);
      settling = setTimeout(write, SETTLED_MS, false);
    }
    soon();
    if (change.runs || change.rank !== undefined) void refreshFacts();
  };
  let isDue = false;
  /** Draw with the next frame, once for all that has changed until then. */
  const soon = () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      draw();
    });
  };
  const choose = (chosen: string[]) => set({ runs: chosen.slice(0, MOST_RUNS), from: null, to: null });
  const toggle = (run: string) => choose(state.runs.includes(run) ? state.runs.filter((one) => one !== run) : [...state.runs, run]);
  const point = (run: string | null) => {
    charts.emphasise(state.runs.length > 1 ? run : null);
    for (const row of table.root.querySelectorAll<HTMLElement>("tr.pointed")) row.classList.remove("pointed");
    if (run !== null) table.root.querySelector<HTMLElement>(`tr[data-run="${CSS.escape(run)}"]`)?.classList.add("pointed");
  };

  const table = new RunTable({
    only: (run) => choose([run]),
    toggle,
    all: choose,
    sort: (key) => set({ sort: key, down: state.sort === key ? !state.down : key !== "loss" && key !== "run" }),
    hover: point,
  });
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const failed = (text: string | null) => {
    problem.hidden = text === null;
    say(problem, text ?? "");
  };
  const charts = new Charts(
    source,
    about,
    {
      zoom: (from, to) => set({ from, to }),
      unzoom: () => set({ from: null, to: null }),
      glide: (from, to) => set({ from, to }, false),
      enlarge: (metric) => set({ large: state.large === metric ? "" : metric }),
      point,
    },
    failed,
  );
  const findings = new FindingList({
    open: (run, finding) => {
      const place = finding.places[state.axis];
      const metric = finding.panels[0];
      const room = place === undefined ? 0 : Math.max(20, Math.abs(place) * 0.1);
      if (place !== undefined && state.axis !== "epoch") set({ from: place - room, to: place + room });
      if (metric) charts.reveal(metric);
      point(run);
    },
  });

  // -- controls ------------------------------------------------------------------------------------------

  const search = (label: string, name: "filter" | "metrics", hint: string) => {
    const box = el("input", { type: "search", "aria-label": label, placeholder: hint, spellcheck: "false" });
    box.addEventListener("input", () => set({ [name]: box.value }, false));
    return box;
  };
  const filter = search("Filter runs", "filter", "Filter: crashed lr>0.01");
  const metrics = search("Filter metrics", "metrics", "Metrics");
  const axis = el("div", { class: "group", role: "group", "aria-label": "x-axis" });
  for (const name of AXES) {
    axis.append(el("button", { type: "button", "data-axis": name }, name, { click: () => set({ axis: name, from: null, to: null }) }));
  }
  const smooth = el("input", { type: "range", min: "0", max: String(WINDOWS.length - 1), "aria-label": "Smoothing" });
  const smoothed = el("output", {}, "");
  smooth.addEventListener("input", () => set({ window: WINDOWS[Number(smooth.value)] ?? 1 }, false));
  const ranks = el("select", { "aria-label": "Rank", title: "Whose values are shown, of a run with several processes", hidden: true });
  ranks.addEventListener("change", () => set({ rank: Number(ranks.value) }));
  const button = (text: string, title: string, click: () => void) => el("button", { type: "button", title }, text, { click });
  const log = button("log", "Logarithmic y-axis (l)", () => set({ log: !state.log }));
  const machine = button("machine", "Also what the machine measured of itself (m)", () => set({ machine: !state.machine }));
  const whole = button("whole", "The whole curves again (r, or a double click)", () => set({ from: null, to: null }));
  const wide = button("⇥", "Wide table (t)", () => set({ wide: !state.wide }));
  const help = el("dialog", { class: "help", "aria-label": "Keys and gestures" }, [
    el("h2", {}, "Keys and gestures"),
    el("dl", {}, HELP.flatMap(([key, text]) => [el("dt", {}, [el("kbd", {}, key)]), el("dd", {}, text)])),
    el("form", { method: "dialog" }, [el("button", {}, "Close")]),
  ]);
  const choices = el("div", { class: "choices" });
  const columns = el("details", { class: "menu" }, [el("summary", {}, "columns"), choices]);
  columns.addEventListener("toggle", () => columns.open && drawChoices());

  const drawChoices = () => {
    const { names, differing } = settings(runs);
    choices.replaceChildren(
      ...names.slice(0, 300).map((name) => {
        const box = el("input", { type: "checkbox" });
        box.checked = table.columns.includes(name);
        box.addEventListener("change", () => set({ columns: box.checked ? [...table.columns, name] : table.columns.filter((one) => one !== name) }, false));
        return el("label", { class: differing.has(name) ? undefined : "dim" }, [box, ` ${name}`]);
      }),
      names.length ? "" : el("span", { class: "dim" }, "No run told its settings: Monitor(config={…})"),
    );
  };

  const live = el("span", { class: "live", title: "Whether new values appear by themselves" });
  const shown = el("p", { class: "shown" });
  const hint = el("span", { class: "dim hint" });
  const count = el("span", { class: "dim" });
  const layout = el("div", { class: "layout" }, [
    el("header", { class: "top" }, [
      el("h1", {}, "entrenar-otel"),
      el("span", { class: "dim lake", title: about.lake }, about.lake),
      live,
      el("span", { class: "space" }),
      axis,
      el("label", { class: "smooth", title: "Running mean over so many values" }, ["smooth ", smooth, smoothed]),
      log,
      machine,
      metrics,
      ranks,
      about.has_token ? el("form", { method: "post", action: "/logout" }, [el("button", { title: "Forget the token in this browser" }, "log out")]) : null,
      button("?", "Keys and gestures (?)", () => help.showModal()),
    ]),
    el("aside", {}, [el("div", { class: "bar" }, [filter, count, columns, wide]), table.root]),
    el("main", {}, [problem, el("div", { class: "bar" }, [shown, hint, whole]), findings.root, charts.root, about.left_out ? el("p", { class: "dim pad left-out" }, leftOut(about.left_out)) : null]),
    help,
  ]);
  document.getElementById("app")!.replaceChildren(layout);

  // -- drawing -------------------------------------------------------------------------------------------

  function draw(): void {
    for (const [box, text] of [[filter, state.filter], [metrics, state.metrics]] as const) if (box.value !== text) box.value = text;
    const mine = facts.filter((one) => state.runs.includes(one.run));
    axes = AXES.filter((name) => name === "step" || mine.some((one) => one.axes.includes(name)));
    for (const one of axis.children as HTMLCollectionOf<HTMLButtonElement>) {
      one.setAttribute("aria-pressed", String(one.dataset.axis === state.axis));
      one.disabled = mine.length > 0 && !axes.includes(one.dataset.axis as Axis);
    }
    const at = WINDOWS.findIndex((window) => window >= state.window);
    smooth.value = String(at < 0 ? WINDOWS.length - 1 : at);
    say(smoothed, state.window > 1 ? String(state.window) : "off");
    log.setAttribute("aria-pressed", String(state.log));
    machine.setAttribute("aria-pressed", String(state.machine));
    wide.setAttribute("aria-pressed", String(state.wide));
    whole.hidden = state.from === null && state.to === null;
    hint.hidden = !mine.length;
    say(hint, whole.hidden ? "drag to zoom" : "Shift+drag or ← → to pan · Ctrl+wheel to zoom");
    layout.classList.toggle("wide", state.wide);
    drawRanks(mine);
    charts.draw(mine, state);
    findings.draw(mine, about.colours.levels);
    const isOfMany = state.runs.length > 1;
    table.draw(runs, state, (run) => (isOfMany ? (charts.colourOf(run)?.colour ?? null) : null));
    say(count, table.shown.length === runs.length ? counted(runs.length) : `${table.shown.length} of ${runs.length}`);
    say(shown, told(mine));
    shown.title = shown.textContent ?? "";
    document.title = state.runs.length === 1 ? `${state.runs[0]} · entrenar-otel` : "entrenar-otel";
  }

  function drawRanks(mine: Facts[]): void {
    const absent = new Set(about.left_out?.ranks);
    const known = [...new Set(mine.flatMap((one) => one.known_ranks))].filter((rank) => !absent.has(rank)).sort((a, b) => a - b);
    ranks.hidden = known.length < 2;
    const told = JSON.stringify([known, state.rank, mine[0]?.rank]);
    if (told === ranks.dataset.told) return;
    ranks.dataset.told = told;
    ranks.replaceChildren(...known.map((rank) => el("option", { value: `${rank}` }, `rank ${rank}`)));
    ranks.value = `${state.rank !== null && known.includes(state.rank) ? state.rank : (mine[0]?.rank ?? known[0])}`;
  }

  function told(mine: Facts[]): string {
    if (!state.runs.length) return runs.length ? "Choose a run." : "";
    if (state.runs.length > 1) {
      if (!mine.some((one) => one.known_ranks.length > 1)) return counted(state.runs.length);
      const wanted = state.rank ?? 0;
      const others = mine.filter((one) => one.rank !== wanted);
      const told = others.length > 3 ? [`${others.length} runs without it: their lowest`] : others.map((one) => `of ${one.run} rank ${one.rank}`);
      return [counted(state.runs.length), `rank ${wanted}`, ...told].join(" · ");
    }
    const one = mine[0];
    if (!one) return state.runs[0]!;
    const parts = [one.run, one.state, one.reason, one.step === null ? null : `step ${one.step}`];
    if (one.done_ratio !== null) parts.push(`${Math.floor(one.done_ratio * 100)} %`);
    if (one.seconds !== null) parts.push(duration(one.seconds));
    if (one.known_ranks.length > 1) parts.push(`rank ${one.rank} of ${one.known_ranks.length} ranks`);
    if (one.is_pruned) parts.push("pruned: means of its curves are left");
    return parts.filter(Boolean).join(" · ");
  }

  // -- what is new ---------------------------------------------------------------------------------------

  /** Those that a question is on its way for. */
  const asked = new Set<string>();

  async function refreshFacts(): Promise<void> {
    const { rank } = state;
    const key = (run: string) => `${rank} ${run}`;
    const wanted = state.runs.filter((run) => !runs.length || runs.some((one) => one.run_id === run));
    const missing = wanted.filter((run) => !facts.some((one) => one.run === run && one.asked === rank));
    const left = missing.filter((run) => !asked.has(key(run)));
    for (const run of left) asked.add(key(run));
    try {
      // what is not there yet comes first; a few soon, and all others by one question
      for (const part of [left.slice(0, FIRST_RUNS), left.slice(FIRST_RUNS)]) {
        if (!part.length) continue;
        const fresh = await source.facts(part, rank);
        if (rank !== state.rank) return;
        facts = [...facts.filter((one) => !part.includes(one.run)), ...fresh];
        order();
        draw();
      }
    } finally {
      for (const run of left) asked.delete(key(run));
    }
    const rest = wanted.filter((run) => !missing.includes(run));
    if (rest.length && source.isLive) {
      const going = rest.filter((run) => facts.some((one) => one.run === run && (one.is_going || isRevived(one))));
      if (going.length) {
        const fresh = await source.facts(going, rank);
        if (rank !== state.rank) return;
        facts = facts.map((one) => fresh.find((new_) => new_.run === one.run) ?? one);
        order();
        draw();
      }
    }
    facts = facts.filter((one) => state.runs.includes(one.run));
  }

  /** A run that had ended and goes on, or ended in another state. */
  function isRevived(one: Facts): boolean {
    return one.state !== runs.find((run) => run.run_id === one.run)?.state;
  }

  function order(): void {
    facts.sort((a, b) => state.runs.indexOf(a.run) - state.runs.indexOf(b.run));
  }

  async function refresh(): Promise<void> {
    try {
      runs = await source.runs();
      if (!state.runs.length && runs.length && !location.hash.includes("run=")) {
        const first = source.isLive ? [...runs].sort((a, b) => b.started_at.localeCompare(a.started_at)).slice(0, 1) : runs;
        state = { ...state, runs: first.map((run) => run.run_id) };
        history.replaceState(null, "", `#${format(state)}`);
      }
      const isGone = state.runs.filter((run) => !runs.some((one) => one.run_id === run));
      draw();
      await refreshFacts();
      failed(isGone.length ? `Not in this lake: ${isGone.join(", ")}` : null);
      const isGoing = facts.some((one) => one.is_going);
      live.className = `live ${source.isLive ? (isGoing ? "on" : "idle") : "file"}`;
      say(live, source.isLive ? (isGoing ? "live" : "up to date") : "a file");
    } catch (error) {
      failed(explained(error));
      live.className = "live off";
      say(live, error instanceof Unreachable ? "offline" : "failed");
    }
  }

  addEventListener("popstate", () => {
    clearTimeout(settling);
    state = parse(location.hash || source.hash);
    draw();
    void refreshFacts();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.redraw());
  keys({
    filter: () => filter.focus(),
    move: (by) => table.move(by),
    axis: () => set({ axis: axes[(axes.indexOf(state.axis) + 1) % axes.length] ?? "step", from: null, to: null }),
    log: () => log.click(),
    machine: () => machine.click(),
    whole: () => set({ from: null, to: null, large: "" }),
    wide: () => wide.click(),
    help: () => (help.open ? help.close() : help.showModal()),
    smooth: (by) => {
      smooth.value = String(Number(smooth.value) + by);
      smooth.dispatchEvent(new Event("input"));
    },
    pan: (by) => {
      if (state.from === null || state.to === null) return;
      const [from, to] = moved([state.from, state.to], by, null);
      set({ from, to }, false);
    },
  });

  await refresh();
  document.documentElement.dataset.ready = "";
  const again = async () => {
    if (!document.hidden) await refresh();
    setTimeout(again, POLL_MS);
  };
  if (source.isLive) setTimeout(again, POLL_MS);
}

/** What a file does not have, for whoever got it. */
function leftOut({ thinned, curves, columns, panels, ranks }: NonNullable<About["left_out"]>): string {
  const whole = curves === 1 ? "Of its curve" : `Of its ${curves} curves`;
  const parts = thinned
    ? [`A file: of ${thinned} of ${curves} curves it has the least and greatest values of ${columns.toLocaleString("en-US")} stretches, of the others every value.`]
    : [`A file. ${whole} it has every value.`];
  if (panels > 0) parts.push(`${panels} more metrics are not in it.`);
  if (ranks.length) parts.push(`Not in it: ${ranks.length === 1 ? `rank ${ranks[0]}` : `ranks ${spans(ranks)}`}.`);
  return parts.join(" ");
}

/** Numbers that rise, those that follow each other as one: `1, 4–7`. */
function spans(numbers: number[]): string {
  const found: [number, number][] = [];
  for (const number of numbers) {
    const last = found.at(-1);
    if (last && number === last[1] + 1) last[1] = number;
    else found.push([number, number]);
  }
  return found.map(([from, to]) => (from === to ? `${from}` : `${from}–${to}`)).join(", ");
}

const counted = (runs: number) => `${runs} ${runs === 1 ? "run" : "runs"}`;

start().catch((error: unknown) => {
  const text = error instanceof Error ? error.message : String(error);
  document.getElementById("app")!.textContent = `The page could not start: ${text}`;
});
