// Wire: curves from the server; the numbers are used where they lie (entrenar_otel/page/wire.py).

export interface Line {
  run: string;
  label: string;
  metric: string;
  split: string;
  tags: Record<string, string>;
  /** How many values the points stand for. */
  of: number;
  x: Float64Array;
  y: Float64Array;
}

export interface Curves {
  axis: string;
  versions: Record<string, string>;
  lines: Line[];
}

const MAGIC = "EOCURVE1";
const HEAD = 16;

export function decode(body: ArrayBuffer): Curves {
  const bytes = new Uint8Array(body);
  if (new TextDecoder().decode(bytes.subarray(0, 8)) !== MAGIC) throw new Error("not curves");
  const length = new DataView(body).getUint32(8, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(HEAD, HEAD + length)));
  let at = HEAD + length;
  const lines: Line[] = header.lines.map((told: Omit<Line, "x" | "y"> & { n: number }) => {
    const x = new Float64Array(body, at, told.n);
    const y = new Float64Array(body, at + 8 * told.n, told.n);
    at += 16 * told.n;
    return { ...told, x, y };
  });
  return { axis: header.axis, versions: header.versions ?? {}, lines };
}
