// Charts: a panel for each metric that the runs have; curves are fetched for those that are in sight.

import { el } from "./dom";
import { Panel, type Mark, type PanelEvents } from "./panel";
import { explained, type About, type Facts, type PanelFacts, type Source, type Statistics } from "./source";
import type { State } from "./state";
import type { Curves, Line } from "./wire";

/** So many colours in a row are told apart by colour-blind people, too; the next so many by their dashes. */
const ALIKE_AFTER = 4;
const MAX_DASHES: number[][] = [[], [9, 4], [2, 3], [10, 3, 2, 3]];

export class Charts {
  readonly root = el("div", { class: "panels" });
  private readonly panels = new Map<string, Panel>();
  private readonly inSight = new Set<string>();
  private readonly asked = new Map<string, string>();
  private readonly curves = new Map<string, Curves>();
  private readonly watcher: IntersectionObserver;
  private readonly slots = new Map<string, number>();
  /** Those that have changed while they were out of sight. */
  private readonly stale = new Set<string>();
  /** Of what a question is on its way for, but for its ends: the next part of it is asked for after that. */
  private readonly busy = new Map<string, string>();
  private known: PanelFacts[] = [];
  private facts: Facts[] = [];
  private state!: State;

  constructor(
    private readonly source: Source,
    private readonly about: About,
    private readonly events: PanelEvents,
    private readonly failed: (text: string | null) => void,
  ) {
    this.watcher = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) {
          const metric = (entry.target as HTMLElement).dataset.metric!;
          if (!entry.isIntersecting) this.inSight.delete(metric);
          else {
            this.inSight.add(metric);
            if (this.stale.has(metric)) this.show(metric);
          }
        }
        void this.fetch();
      },
      { rootMargin: "300px" },
    );
  }

  /** The colour of a run, the same as long as it is shown; null where a run's own lines have several. */
  colourOf(run: string): { colour: string; dash: number[] } | null {
    const slot = this.slots.get(run);
    if (slot === undefined) return null;
    const { lines } = this.about.colours;
    const dash = MAX_DASHES[Math.floor(slot / ALIKE_AFTER) % MAX_DASHES.length]!;
    return { colour: lines[slot % lines.length]!, dash };
  }

  draw(facts: Facts[], state: State): void {
    this.facts = facts;
    this.state = state;
    this.assign(state.runs);
    const wanted = this.wanted();
    this.known = wanted;
    const names = new Set(wanted.map((panel) => panel.metric));
    for (const [metric, panel] of this.panels) {
      if (names.has(metric)) continue;
      this.watcher.unobserve(panel.root);
      panel.destroy();
      for (const kept of [this.panels, this.asked, this.curves, this.busy, this.stale]) kept.delete(metric);
      this.inSight.delete(metric);
    }
    wanted.forEach((panel, at) => {
      let own = this.panels.get(panel.metric);
      if (!own) {
        own = new Panel(panel.metric, this.events);
        this.panels.set(panel.metric, own);
        this.watcher.observe(own.root);
      }
      own.root.classList.toggle("large", state.large === panel.metric);
      if (this.root.children[at] !== own.root) this.root.insertBefore(own.root, this.root.children[at] ?? null);
    });
    this.root.classList.toggle("has-large", names.has(state.large));
    this.redraw();
    void this.fetch();
  }

  emphasise(run: string | null): void {
    for (const metric of this.inSight) this.panels.get(metric)?.emphasise(run);
  }

  /** Draw all again: at once what is in sight. */
  redraw(): void {
    for (const metric of this.curves.keys()) {
      if (this.inSight.has(metric)) this.show(metric);
      else this.stale.add(metric);
    }
  }

  reveal(metric: string): void {
    this.panels.get(metric)?.root.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }

  private assign(runs: string[]): void {
    for (const run of this.slots.keys()) if (!runs.includes(run)) this.slots.delete(run);
    const taken = new Set(this.slots.values());
    let next = 0;
    for (const run of runs) {
      if (this.slots.has(run)) continue;
      while (taken.has(next)) next++;
      taken.add(next);
      this.slots.set(run, next);
    }
  }

  /** The panels of all runs, in the order of the first run that has them. */
  private wanted(): PanelFacts[] {
    const found = new Map<string, PanelFacts>();
    const part = this.state.metrics.toLowerCase();
    for (const facts of this.facts) {
      for (const panel of facts.panels) {
        const isMeant = part ? panel.metric.toLowerCase().includes(part) : !panel.of_machine || this.state.machine;
        if (isMeant && !found.has(panel.metric)) found.set(panel.metric, panel);
      }
    }
    const panels = [...found.values()];
    return [...panels.filter((panel) => !panel.of_machine), ...panels.filter((panel) => panel.of_machine)];
  }

  private async fetch(): Promise<void> {
    await Promise.all([...this.inSight].map((metric) => this.fetchOne(metric)));
  }

  private async fetchOne(metric: string): Promise<void> {
    const panel = this.panels.get(metric);
    if (!panel) return;
    const { axis, window: mean, from, to, rank } = this.state;
    const having = this.facts.filter((facts) => facts.panels.some((one) => one.metric === metric));
    const runs = having.map((facts) => facts.run);
    // at most as many points for many lines as a canvas draws between two frames
    const columns = Math.max(100, Math.min(panel.width, Math.round(24_000 / Math.max(1, runs.length))));
    const same = JSON.stringify([axis, mean, rank, having.map((facts) => [facts.run, facts.version])]);
    const told = JSON.stringify([same, from, to, Math.round(columns / 64)]);
    if (!runs.length || this.asked.get(metric) === told || this.busy.get(metric) === same) return;
    this.asked.set(metric, told);
    this.busy.set(metric, same);
    try {
      const curves = await this.source.curves({ metric, runs, axis, columns, window: mean, from, to, rank });
      if (this.asked.get(metric) !== told) return;
      this.curves.set(metric, curves);
      this.show(metric);
      this.failed(null);
    } catch (error) {
      if (this.asked.get(metric) === told) this.asked.delete(metric);
      this.failed(explained(error));
      return;
    } finally {
      if (this.busy.get(metric) === same) this.busy.delete(metric);
    }
    void this.fetchOne(metric); // where the view has moved on meanwhile
  }

  private numbersOf(line: Line): Statistics | null {
    const tags = JSON.stringify(line.tags);
    const known = this.facts.find((one) => one.run === line.run)?.statistics;
    return known?.find((one) => one.metric === line.metric && JSON.stringify(one.tags) === tags) ?? null;
  }

  private show(metric: string): void {
    this.stale.delete(metric);
    const [panel, curves] = [this.panels.get(metric), this.curves.get(metric)];
    const facts = this.known.find((one) => one.metric === metric);
    if (!panel || !curves || !facts || curves.axis !== this.state.axis) return;
    const { colours } = this.about;
    const isOfMany = this.state.runs.length > 1;
    const marks: Mark[] = this.facts.flatMap((one) =>
      one.findings.filter((finding) => finding.panels.includes(metric)).map((finding) => ({ run: one.run, finding })),
    );
    panel.draw({
      facts,
      axis: this.state.axis,
      log: this.state.log,
      lines: curves.lines.filter((line) => this.state.runs.includes(line.run)),
      marks,
      from: this.state.from,
      to: this.state.to,
      isGoing: this.facts.some((one) => one.is_going),
      numbersOf: isOfMany ? null : (line) => this.numbersOf(line),
      colourOf: isOfMany ? (run) => this.colourOf(run) ?? { colour: colours.lines[0]!, dash: [] } : null,
      palette: colours.lines,
      levels: colours.levels,
      limit: colours.limit,
      nonfinite: colours.nonfinite,
    });
  }
}
