// Panel: the curves of one metric on a canvas, findings on them, and what is under the pointer.

import uPlot from "uplot";
import { el, say, themed } from "./dom";
import { clock, number, runName, step } from "./format";
import { follow, isPan, type Range } from "./gestures";
import type { Axis, Finding, PanelFacts, Statistics } from "./source";
import { place } from "./thin";
import { evenTicks, isNamed, logTicks } from "./ticks";
import type { Line } from "./wire";

export interface Mark {
  run: string;
  finding: Finding;
}

/** What a panel draws. */
export interface Drawing {
  facts: PanelFacts;
  axis: Axis;
  log: boolean;
  lines: Line[];
  marks: Mark[];
  from: number | null;
  to: number | null;
  /** Whether more values come. */
  isGoing: boolean;
  /** What is known of all values of a line, where a single run is shown. */
  numbersOf: ((line: Line) => Statistics | null) | null;
  /** Of a run, where there are several. */
  colourOf: ((run: string) => { colour: string; dash: number[] }) | null;
  palette: string[];
  levels: Record<string, string>;
  limit: string;
  nonfinite: string;
}

export interface PanelEvents {
  zoom(from: number, to: number): void;
  unzoom(): void;
  /** As `zoom`, with each frame of a gesture. */
  glide(from: number, to: number): void;
  enlarge(metric: string): void;
  point(run: string | null): void;
}

/** So that differences of two values are numbers, too. */
const MOST = Number.MAX_VALUE / 4;
const DASHED = [6, 4];
const DOTTED = [2, 6];
/** Between two ticks of a step axis: there is no half step. */
const WHOLE = Array.from({ length: 16 }, (_, power) => [1, 2, 5].map((digit) => digit * 10 ** power)).flat();
/** Of all values, not of those that are drawn: below the title, and in full where somebody points at it. */
const SHOWN = ["last", "min", "max", "mean"] as const;
const ALL = ["count", "nonfinite", "last", "mean", "std", "min", "max", "p50", "p90", "p99"] as const;
const MOST_NUMBERS = 3;
/** Within so many pixels a point is meant. */
const NEAR = 32;

export class Panel {
  readonly root: HTMLElement;
  private readonly host: HTMLElement;
  private readonly title: HTMLElement;
  private readonly legend: HTMLElement;
  private readonly numbers: HTMLElement;
  private readonly tip: HTMLElement;
  private plot: uPlot | null = null;
  private made = "";
  private drawing: Drawing | null = null;
  private emphasised: string | null = null;
  /** How wide it may be; asked for in every frame, the browser would lay out the page for it. */
  private room = 0;
  private range: { x: Range; y: Range } = { x: [0, 1], y: [0, 1] };
  /** From the first place to the last, as they were when all was shown last. */
  private whole: Range | null = null;

  constructor(
    readonly metric: string,
    private readonly events: PanelEvents,
  ) {
    this.title = el("h2");
    this.legend = el("div", { class: "legend" });
    this.numbers = el("p", { class: "numbers" });
    this.host = el("div", { class: "plot", tabindex: "0", role: "img" });
    this.tip = el("div", { class: "tip", hidden: true });
    const enlarge = el("button", { type: "button", class: "plain", title: "Large, and back", "aria-label": "Large, and back" }, "⤢", {
      click: () => events.enlarge(metric),
    });
    const head = el("header", {}, [this.title, this.legend, enlarge]);
    this.root = el("section", { class: "panel" }, [head, this.numbers, this.host, this.tip]);
    this.root.dataset.metric = metric;
    new ResizeObserver(([entry]) => {
      this.room = Math.round(entry!.contentRect.width);
      this.fit();
    }).observe(this.host);
    this.host.addEventListener("pointerleave", () => this.leave());
  }

  get width(): number {
    return Math.max(100, this.room || 400);
  }

  draw(drawing: Drawing): void {
    this.drawing = drawing;
    const { facts, lines } = drawing;
    say(this.title, facts.unit ? `${facts.title} (${facts.unit})` : facts.title);
    this.root.classList.toggle("empty", !lines.length);
    this.showLegend(drawing);
    this.showNumbers(drawing);
    this.range = { x: this.xRange(drawing), y: [0, 1] };
    this.range.y = this.yRange(drawing, this.range.x);
    const points = lines.reduce((sum, line) => sum + line.of, 0);
    this.host.setAttribute("aria-label", `${facts.title}: ${lines.length} curves of ${points} values`);
    const made = JSON.stringify([drawing.axis, drawing.log, lines.map((line) => [line.run, line.label]), themed("ink")]);
    const data = [null, ...lines.map((line) => [line.x, line.y])] as unknown as uPlot.AlignedData;
    if (!this.plot || made !== this.made) {
      this.plot?.destroy();
      this.leave();
      this.plot = new uPlot(this.options(drawing), data, this.host);
      this.followed(this.plot);
      this.made = made;
    } else {
      this.plot.setData(data, false);
    }
    this.scale();
    this.emphasise(this.emphasised);
    // what is under a pointer that rests has changed, too
    if (!this.tip.hidden) this.point(this.plot);
  }

  /** Draw the lines of this run as the foremost, those of others faint. */
  emphasise(run: string | null): void {
    this.emphasised = run;
    const { plot, drawing } = this;
    if (!plot || !drawing) return;
    const is = run !== null && drawing.colourOf !== null && drawing.lines.some((line) => line.run === run);
    drawing.lines.forEach((line, at) => {
      const series = plot.series[at + 1]!;
      series.alpha = !is || line.run === run ? 1 : 0.18;
      series.width = is && line.run === run ? 2.5 : this.strokeWidth(drawing);
    });
    plot.redraw(false, false);
  }

  destroy(): void {
    this.plot?.destroy();
    this.root.remove();
  }

  private strokeWidth(drawing: Drawing): number {
    // a browser without a graphics card draws lines of one pixel ten times as fast as wider ones
    const isDense = drawing.lines.some((line) => line.x.length > 1.5 * this.width);
    return isDense || drawing.lines.length > 12 ? 1 : 1.5;
  }

  private scale(): void {
    this.plot?.batch(() => {
      this.plot!.setScale("x", { min: this.range.x[0], max: this.range.x[1] });
      this.plot!.setScale("y", { min: this.range.y[0], max: this.range.y[1] });
    });
  }

  private fit(): void {
    const { plot } = this;
    if (!plot || !this.room) return;
    if (plot.width !== this.width || plot.height !== this.host.clientHeight) {
      plot.setSize({ width: this.width, height: this.host.clientHeight });
    }
  }

  private style(line: Line, drawing: Drawing): { colour: string; dash: number[] } {
    if (drawing.colourOf) {
      const own = drawing.colourOf(line.run);
      return line.split === "validation" ? { ...own, dash: own.dash.length ? DOTTED : DASHED } : own;
    }
    const at = drawing.lines.indexOf(line);
    return { colour: drawing.palette[at % drawing.palette.length]!, dash: at < drawing.palette.length ? [] : DASHED };
  }

  private showLegend(drawing: Drawing): void {
    const labels = [...new Set(drawing.lines.map((line) => line.label))];
    const shown = labels.length > 1 && labels.length <= 6 ? labels : [];
    this.legend.replaceChildren(
      ...shown.map((label) => {
        const line = drawing.lines.find((one) => one.label === label)!;
        const { colour, dash } = this.style(line, drawing);
        const swatch = el("span", { class: dash.length ? "swatch dashed" : "swatch" });
        swatch.style.color = drawing.colourOf ? themed("dim") : colour;
        return el("span", {}, [swatch, label]);
      }),
    );
  }

  private showNumbers({ lines, numbersOf }: Drawing): void {
    const known = numbersOf ? lines.slice(0, MOST_NUMBERS).map((line) => ({ line, numbers: numbersOf(line) })) : [];
    const told = known.flatMap(({ line, numbers }) => {
      if (!numbers) return [];
      const parts = SHOWN.map((name) => `${name} ${number(numbers[name])}`);
      if (numbers.nonfinite) parts.push(`${number(numbers.nonfinite)} not finite`);
      return [[lines.length > 1 ? line.label : "", ...parts].filter(Boolean).join(" · ")];
    });
    say(this.numbers, told.join("\n"));
    const all = known.flatMap(({ line, numbers }) => (numbers ? [`${line.label || line.metric}: ${ALL.map((name) => `${name} ${number(numbers[name])}`).join(", ")}`] : []));
    this.numbers.title = all.join("\n");
    this.numbers.hidden = !told.length;
  }

  private xRange({ lines, from, to }: Drawing): Range {
    let [low, high] = [Infinity, -Infinity];
    for (const { x } of lines) {
      // places may be unknown at the ends: epochs that were not told
      for (let at = 0; at < x.length; at++) if (Number.isFinite(x[at]!)) { low = Math.min(low, x[at]!); break; }
      for (let at = x.length - 1; at >= 0; at--) if (Number.isFinite(x[at]!)) { high = Math.max(high, x[at]!); break; }
    }
    if (from === null && to === null) this.whole = Number.isFinite(low) ? [low, high] : null;
    if (!Number.isFinite(low)) [low, high] = [0, 1];
    low = from ?? low;
    high = to ?? high;
    return high > low ? [low, high] : [low - 0.5, low + 0.5];
  }

  private yRange({ lines, log }: Drawing, [from, to]: Range): Range {
    let [low, high] = [Infinity, -Infinity];
    for (const { x, y } of lines) {
      for (let at = 0; at < y.length; at++) {
        const value = y[at]!;
        if (x[at]! < from || x[at]! > to || !Number.isFinite(value) || (log && value <= 0)) continue;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    if (!Number.isFinite(low)) return log ? [0.1, 10] : [0, 1];
    const most = (value: number) => Math.max(-MOST, Math.min(MOST, value)); // what diverges comes to any number
    if (log) {
      const room = low === high ? 2 : 1.15;
      return [Math.max(Number.MIN_VALUE, low / room), most(high * room)];
    }
    const room = (high * 0.06 - low * 0.06) || Math.abs(high) * 0.05 || 1;
    return [most(low - room), most(high + room)];
  }

  private options(drawing: Drawing): uPlot.Options {
    const ink = themed("dim");
    const grid = { stroke: themed("grid"), width: 1 };
    const font = "12px system-ui, sans-serif";
    const axis = { stroke: ink, grid, ticks: { ...grid, size: 4 }, font };
    return {
      mode: 2,
      width: this.width,
      height: this.host.clientHeight || 240,
      padding: [8, 28, 0, 0],
      legend: { show: false },
      cursor: {
        points: { show: false },
        y: false,
        drag: { x: true, y: false, setScale: false },
        bind: {
          dblclick: () => () => (this.events.unzoom(), null),
          mousedown: (_plot, over, handle) => (event) => {
            if (event.button === 0 && event.target === over && !isPan(event)) handle(event);
            return null;
          },
        },
      },
      scales: {
        x: { time: false, auto: false, range: () => this.range.x },
        y: { auto: false, distr: drawing.log ? 3 : 1, log: 10, range: () => this.range.y },
      },
      axes: [
        {
          ...axis,
          size: 30,
          space: 70,
          incrs: drawing.axis === "step" ? WHOLE : undefined,
          values: (_plot, splits) => splits.map((at) => (at == null ? "" : this.place(at, drawing.axis))),
        },
        {
          ...axis,
          size: (_plot, values) => 14 + 7 * Math.max(3, ...(values ?? []).map((text) => text?.length ?? 0)),
          splits: (plot, _axis, low, high) =>
            drawing.log ? logTicks(low, high) : evenTicks(low, high, Math.max(2, plot.bbox.height / devicePixelRatio / 40)),
          filter: (_plot, splits) => splits,
          values: (_plot, splits) =>
            splits.map((at) => (at == null || (drawing.log && !isNamed(at, ...this.range.y)) ? "" : number(at))),
        },
      ],
      series: [
        {},
        ...drawing.lines.map((line) => {
          const { colour, dash } = this.style(line, drawing);
          return {
            facets: [
              { scale: "x", auto: false, sorted: 1 as const },
              { scale: "y", auto: false },
            ],
            stroke: colour,
            width: this.strokeWidth(drawing),
            dash,
            points: { show: false },
            paths: stroked,
          };
        }),
      ],
      hooks: {
        draw: [(plot) => this.mark(plot)],
        setCursor: [(plot) => this.point(plot)],
        setSelect: [(plot) => this.select(plot)],
      },
    };
  }

  private place(at: number, axis: Axis): string {
    return axis === "time" ? clock(at) : axis === "step" ? step(at) : number(at);
  }

  /** Pan and zoom by what the pointer does over the curves. */
  private followed(plot: uPlot): void {
    const isPart = () => this.drawing !== null && (this.drawing.from !== null || this.drawing.to !== null);
    const least = () => (this.drawing?.axis === "step" ? 2 : Math.abs(this.range.x[1]) * 1e-9);
    follow(plot.over, () => (this.drawing?.isGoing ? null : this.whole), least, {
      range: () => ({ shown: this.range.x, isPart: isPart() }),
      show: ([from, to]) => {
        const isAll = this.whole !== null && from <= this.whole[0] && to >= this.whole[1];
        if (!isAll) this.events.glide(from, to);
        else if (isPart()) this.events.unzoom();
      },
    });
  }

  private select(plot: uPlot): void {
    const { left, width } = plot.select;
    if (width < 4) return;
    const [from, to] = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.events.zoom(from, to);
  }

  /** Limits, values that are not finite, findings. */
  private mark(plot: uPlot): void {
    const { drawing } = this;
    if (!drawing) return;
    const { ctx, bbox } = plot;
    const dot = devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    // a little beyond both sides, where the first and the last mark are
    ctx.rect(bbox.left - 7 * dot, bbox.top, bbox.width + 14 * dot, bbox.height);
    ctx.clip();
    ctx.strokeStyle = drawing.limit;
    ctx.lineWidth = dot;
    ctx.setLineDash([3 * dot, 3 * dot]);
    for (const [, limit] of drawing.facts.limits) {
      const y = plot.valToPos(limit, "y", true);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    }
    ctx.setLineDash([]);
    ctx.strokeStyle = drawing.nonfinite;
    ctx.lineWidth = 1.5 * dot;
    for (const line of drawing.lines) this.crosses(plot, line, dot);
    for (const mark of drawing.marks) this.triangle(plot, mark, drawing, dot);
    ctx.restore();
  }

  private crosses(plot: uPlot, line: Line, dot: number): void {
    const { ctx, bbox } = plot;
    const [y, size] = [bbox.top + 7 * dot, 3.5 * dot];
    let last = -Infinity;
    for (let at = 0; at < line.y.length; at++) {
      if (Number.isFinite(line.y[at]!)) continue;
      const x = plot.valToPos(line.x[at]!, "x", true);
      if (!(x - last > 5 * dot)) continue;
      last = x;
      ctx.beginPath();
      ctx.moveTo(x - size, y - size);
      ctx.lineTo(x + size, y + size);
      ctx.moveTo(x - size, y + size);
      ctx.lineTo(x + size, y - size);
      ctx.stroke();
    }
  }

  private triangle(plot: uPlot, mark: Mark, drawing: Drawing, dot: number): void {
    const at = mark.finding.places[drawing.axis];
    if (at === undefined) return;
    const { ctx, bbox } = plot;
    const value = this.valueAt(mark, at, drawing);
    const x = plot.valToPos(at, "x", true);
    const bottom = bbox.top + bbox.height - 2 * dot;
    const y = value === null ? bottom - 10 * dot : Math.min(plot.valToPos(value, "y", true) + 4 * dot, bottom - 10 * dot);
    const top = Math.max(y, bbox.top + 2 * dot);
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x + 6 * dot, top + 10 * dot);
    ctx.lineTo(x - 6 * dot, top + 10 * dot);
    ctx.closePath();
    const isFaint = this.emphasised !== null && this.emphasised !== mark.run;
    ctx.globalAlpha = isFaint ? 0.2 : 1;
    ctx.fillStyle = drawing.levels[mark.finding.level] ?? drawing.nonfinite;
    ctx.strokeStyle = themed("card");
    ctx.lineWidth = 1.5 * dot;
    ctx.fill();
    ctx.stroke();
    ctx.globalAlpha = 1;
  }

  private valueAt(mark: Mark, at: number, drawing: Drawing): number | null {
    if (typeof mark.finding.value === "number" && (!drawing.log || mark.finding.value > 0)) return mark.finding.value;
    const line = drawing.lines.find((one) => one.run === mark.run);
    const value = line?.y[Math.min(place(line.x, at), line.y.length - 1)];
    return value !== undefined && Number.isFinite(value) && (!drawing.log || value > 0) ? value : null;
  }

  /** What is under the pointer. */
  private point(plot: uPlot): void {
    const { drawing } = this;
    const { left = -1, top = -1 } = plot.cursor;
    if (!drawing || left < 0) return this.leave();
    const at = plot.posToVal(left, "x");
    let nearest: { line: Line; x: number; y: number; away: number } | null = null;
    const values: { line: Line; y: number }[] = [];
    for (const line of drawing.lines) {
      if (!line.x.length) continue;
      const after = Math.min(place(line.x, at), line.x.length - 1);
      const before = Math.max(0, after - 1);
      const index = at - line.x[before]! < line.x[after]! - at ? before : after;
      const [x, y] = [line.x[index]!, line.y[index]!];
      values.push({ line, y });
      // along the line: a spike is a point of its own
      const between = line.y[before]! + ((line.y[after]! - line.y[before]!) * (at - line.x[before]!)) / (line.x[after]! - line.x[before]! || 1);
      const high = plot.valToPos(Number.isFinite(between) ? between : y, "y");
      const away = Math.min(Math.abs(high - top), Math.abs(plot.valToPos(y, "y") - top));
      if (Number.isFinite(away) && (!nearest || away < nearest.away)) nearest = { line, x, y, away };
    }
    const isNear = nearest !== null && nearest.away < NEAR;
    const isOfMany = drawing.lines.length > 6;
    const where = this.place(drawing.axis === "step" ? Math.round(at) : at, drawing.axis);
    const named = drawing.axis === "time" ? where : `${drawing.axis} ${where}`;
    const shown = isOfMany ? (isNear && nearest ? [nearest] : []) : values;
    const marks = drawing.marks.filter(({ finding }) => {
      const its = finding.places[drawing.axis];
      return its !== undefined && Math.abs(plot.valToPos(its, "x") - left) < 8;
    });
    this.tip.replaceChildren(
      el("div", { class: "dim" }, named),
      ...shown.map(({ line, y }) => {
        const swatch = el("span", { class: "swatch" });
        swatch.style.color = this.style(line, drawing).colour;
        const name = [drawing.colourOf ? runName(line.run) : "", line.label].filter(Boolean).join(" · ") || drawing.facts.title;
        return el("div", {}, [swatch, el("b", {}, number(y)), ` ${name}`]);
      }),
      ...marks.slice(0, 4).map(({ finding, run }) =>
        el("div", { class: "found" }, `▲ ${finding.level} ${finding.name}${drawing.colourOf ? ` in ${runName(run)}` : ""}: ${finding.summary}`),
      ),
    );
    this.tip.hidden = false;
    const room = this.root.clientWidth - this.tip.offsetWidth - 8;
    const over = this.host.offsetLeft + plot.bbox.left / devicePixelRatio + left;
    this.tip.style.left = `${Math.max(4, over + 16 > room ? Math.min(over - this.tip.offsetWidth - 12, room) : over + 16)}px`;
    this.tip.style.top = `${this.host.offsetTop + Math.max(0, top - 8)}px`;
    if (drawing.colourOf) this.events.point(isNear && nearest ? nearest.line.run : null);
  }

  private leave(): void {
    if (this.tip.hidden) return;
    this.tip.hidden = true;
    this.events.point(null);
  }
}

/** Lines between points that follow each other; where a value is not finite there is a gap. */
const stroked: uPlot.Series.PathBuilder = (plot, seriesIdx) => {
  const stroke = new Path2D();
  const [xs, ys] = plot.data[seriesIdx] as unknown as [Float64Array, Float64Array];
  const isLog = plot.scales.y!.distr === 3;
  const { left, top, width, height } = plot.bbox;
  const { min: low = 0, max: high = 1 } = plot.scales.x as { min?: number; max?: number };
  const far = 8 * height;
  const first = Math.max(0, place(xs, low) - 1);
  const last = Math.min(xs.length - 1, place(xs, high) + 1);
  const x0 = plot.valToPos(low, "x", true);
  const perX = width / (high - low || 1);
  const yMin = plot.scales.y!.min!;
  const yMax = plot.scales.y!.max!;
  const scaled = (value: number) => (isLog ? Math.log10(value) : value);
  const perY = height / (scaled(yMax) - scaled(yMin) || 1);
  const bottom = top + height;
  let isDown = false;
  let alone: [number, number] | null = null;
  const end = () => {
    // a value between two that are not finite, or the only one, would be no line
    if (alone) stroke.rect(alone[0] - 1, alone[1] - 1, 2, 2);
    alone = null;
  };
  for (let at = first; at <= last; at++) {
    const value = ys[at]!;
    if (!Number.isFinite(value) || (isLog && value <= 0) || !Number.isFinite(xs[at]!)) {
      end();
      isDown = false;
      continue;
    }
    const x = x0 + (xs[at]! - low) * perX;
    const y = Math.max(top - far, Math.min(bottom + far, bottom - (scaled(value) - scaled(yMin)) * perY));
    if (isDown) {
      stroke.lineTo(x, y);
      alone = null;
    } else {
      stroke.moveTo(x, y);
      alone = [x, y];
    }
    isDown = true;
  }
  end();
  const clip = new Path2D();
  clip.rect(left, top, width, height);
  return { stroke, fill: undefined as unknown as Path2D, clip, flags: 1 };
};
