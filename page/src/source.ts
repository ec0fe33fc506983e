// Source: where runs and curves come from: a server, or what lies in the file itself.

import { extremes, place, smoothed } from "./thin";
import { decode, type Curves } from "./wire";

export type Axis = "step" | "epoch" | "time";

export interface About {
  version: string;
  lake: string;
  /** Whether there is a log-in, and so a way out. */
  has_token?: boolean;
  /** Of a file: what is not in it. */
  left_out?: { thinned: number; curves: number; columns: number; panels: number; ranks: number[] };
  colours: { lines: string[]; levels: Record<string, string>; limit: string; nonfinite: string };
}

export interface Run {
  run_id: string;
  state: string;
  reason: string | null;
  started_at: string;
  seconds: number | null;
  model_id: string | null;
  host: string | null;
  loss: number | string | null;
  alerts: number;
  alert_level: string | null;
  first_alert: string | null;
  config: Record<string, unknown> | null;
}

export interface Finding {
  name: string;
  level: string;
  summary: string;
  metric: string | null;
  panels: string[];
  state: string;
  action: string;
  count: number;
  at: string;
  value: number | string | null;
  step: number | null;
  epoch: number | null;
  places: Partial<Record<Axis, number>>;
}

export interface PanelFacts {
  metric: string;
  title: string;
  unit: string;
  of_machine: boolean;
  limits: [string, number][];
}

/** Of all values of a series; what JSON has no number for is a text. */
export interface Statistics extends Record<"count" | "nonfinite" | "last" | "mean" | "std" | "min" | "max" | "p50" | "p90" | "p99", number | string | null> {}

export interface Facts {
  run: string;
  version: string;
  state: string;
  reason: string | null;
  /** Whose values these are, and which others the run has. */
  rank: number;
  known_ranks: number[];
  /** The rank that was asked for. */
  asked: number | null;
  is_going: boolean;
  is_pruned: boolean;
  axes: Axis[];
  seconds: number | null;
  step: number | null;
  done_ratio: number | null;
  panels: PanelFacts[];
  findings: Finding[];
  statistics: (Statistics & { metric: string; tags: Record<string, string> })[];
}

export interface Wanted {
  metric: string;
  runs: string[];
  axis: Axis;
  columns: number;
  window: number;
  from: number | null;
  to: number | null;
  /** Of runs that have it; null: the lowest. */
  rank: number | null;
}

export interface Source {
  readonly isLive: boolean;
  /** The state that is shown where the address has none. */
  readonly hash: string;
  about(): Promise<About>;
  runs(): Promise<Run[]>;
  facts(runs: string[], rank: number | null): Promise<Facts[]>;
  curves(wanted: Wanted): Promise<Curves>;
}

/** Of one question; the server takes 32 kB, and a run's id may be long. */
const LONG_QUERY = 16_000;
/** The server itself cuts what takes longer than two minutes. */
const ASK_MS = 150_000;

/** The server did not answer as it should; the text is its own. */
export class Refused extends Error {}

/** There was no answer. */
export class Unreachable extends Refused {}

/** What to say of an error: the server's own text, or that the fault is the page's. */
export function explained(error: unknown): string {
  if (error instanceof Refused) return error.message;
  console.error(error);
  return `The page cannot show this: ${error instanceof Error ? error.message : String(error)}`;
}

export class HttpSource implements Source {
  readonly isLive = true;
  readonly hash = "";

  async about(): Promise<About> {
    return (await this.ask("/api/about")).json();
  }

  async runs(): Promise<Run[]> {
    return (await (await this.ask("/api/runs")).json()).runs;
  }

  async facts(runs: string[], rank: number | null): Promise<Facts[]> {
    const known: Facts[] = [];
    let asked = new URLSearchParams();
    const send = async () => {
      if (rank !== null) asked.set("rank", `${rank}`);
      const fresh: Facts[] = (await (await this.ask(`/api/facts?${asked}`)).json()).runs;
      known.push(...fresh.map((one) => ({ ...one, asked: rank })));
      asked = new URLSearchParams();
    };
    for (const run of runs) {
      asked.append("run", run);
      if (asked.toString().length > LONG_QUERY) await send();
    }
    if (asked.has("run")) await send();
    return known;
  }

  async curves(wanted: Wanted): Promise<Curves> {
    const asked = new URLSearchParams({ metric: wanted.metric, x: wanted.axis, columns: `${wanted.columns}` });
    if (wanted.window > 1) asked.set("window", `${wanted.window}`);
    if (wanted.from !== null) asked.set("from", `${wanted.from}`);
    if (wanted.to !== null) asked.set("to", `${wanted.to}`);
    if (wanted.rank !== null) asked.set("rank", `${wanted.rank}`);
    for (const run of wanted.runs) asked.append("run", run);
    return decode(await (await this.ask(`/api/curves?${asked}`)).arrayBuffer());
  }

  private async ask(path: string): Promise<Response> {
    // a connection that died silently would be waited for by all that comes after
    const answer = await fetch(path, { credentials: "same-origin", signal: AbortSignal.timeout(ASK_MS) }).catch((error: unknown) => {
      throw new Unreachable("The server does not answer; trying again.", { cause: error });
    });
    if (answer.status === 401) location.assign(`/login${location.hash}`);
    if (!answer.ok) throw new Refused((await answer.text()).trim() || answer.statusText);
    return answer;
  }
}

interface Packed {
  about: About;
  runs: Run[];
  facts: Facts[];
  curves: { metric: string; axis: Axis; rank: number; start: number; length: number }[];
  hash: string;
}

/** What `entrenar-otel plot RUN -o run.html` wrote into the file. */
export class EmbeddedSource implements Source {
  readonly isLive = false;
  private readonly kept = new Map<string, Curves>();

  private constructor(
    private readonly packed: Packed,
    private readonly bytes: ArrayBuffer,
    private readonly start: number,
  ) {}

  static async open(text: string): Promise<EmbeddedSource> {
    const zipped = Uint8Array.from(atob(text.trim()), (sign) => sign.charCodeAt(0));
    const stream = new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip"));
    const bytes = await new Response(stream).arrayBuffer();
    const length = new DataView(bytes).getUint32(0, true);
    const packed = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 8, length)));
    return new EmbeddedSource(packed, bytes, 8 + length);
  }

  get hash(): string {
    return this.packed.hash;
  }

  async about(): Promise<About> {
    return this.packed.about;
  }

  async runs(): Promise<Run[]> {
    return this.packed.runs;
  }

  async facts(runs: string[], rank: number | null): Promise<Facts[]> {
    return runs.flatMap((run) => {
      const one = this.factsOf(run, rank);
      return one ? [{ ...one, asked: rank }] : [];
    });
  }

  /** Of the rank that was asked for, or of the run's first where it has no such. */
  private factsOf(run: string, rank: number | null): Facts | undefined {
    const its = this.packed.facts.filter((one) => one.run === run);
    return its.find((one) => one.rank === rank) ?? its[0];
  }

  async curves(wanted: Wanted): Promise<Curves> {
    const lines = wanted.runs
      .flatMap((run) => {
        const rank = this.factsOf(run, wanted.rank)?.rank ?? 0;
        return this.whole(wanted.metric, wanted.axis, rank).lines.filter((line) => line.run === run);
      })
      .map((line) => {
        const y = smoothed(line.y, Math.min(wanted.window, Math.floor(line.y.length / 10)));
        const from = wanted.from === null ? 0 : Math.max(0, place(line.x, wanted.from) - 1);
        const to = wanted.to === null ? y.length : Math.min(y.length, place(line.x, wanted.to) + 1);
        const kept = extremes(y, wanted.columns, from, to);
        return { ...line, x: Float64Array.from(kept, (at) => line.x[at]!), y: Float64Array.from(kept, (at) => y[at]!) };
      });
    return { axis: wanted.axis, versions: {}, lines };
  }

  private whole(metric: string, axis: Axis, rank: number): Curves {
    const key = `${axis} ${rank} ${metric}`;
    let curves = this.kept.get(key);
    if (!curves) {
      const at = this.packed.curves.find((one) => one.metric === metric && one.axis === axis && one.rank === rank);
      if (!at) return { axis, versions: {}, lines: [] };
      const start = this.start + at.start;
      curves = decode(this.bytes.slice(start, start + at.length));
      this.kept.set(key, curves);
    }
    return curves;
  }
}
