// Ticks: where a y-axis has its lines, for any range of finite numbers: a run that diverges comes to 1e30, and uPlot's
// own end at 1e24. None is so many that a browser could not draw them.

const MOST_DECADES = 6; // with lines between the powers of ten
const MOST_POWERS = 10; // with a line each

/** Even steps of 1, 2 or 5 times a power of ten, about `most` of them. */
export function evenTicks(low: number, high: number, most: number): number[] {
  const least = high / most - low / most; // the difference of two such may be no number
  if (!(least > 0) || !Number.isFinite(least)) return [];
  const unit = Number(`1e${Math.floor(Math.log10(least))}`) || Number.MIN_VALUE;
  const step = unit * ([1, 2, 5].find((one) => one * unit >= least) ?? 10);
  const first = Math.ceil(low / step);
  const ticks: number[] = [];
  for (let at = 0; at <= 2 * most; at++) {
    const tick = Number(((first + at) * step).toPrecision(12));
    if (!(tick <= high)) break;
    if (tick !== ticks.at(-1)) ticks.push(tick);
  }
  return ticks;
}

/** Powers of ten; between them their multiples, where that leaves room. `low` and `high` are above 0. */
export function logTicks(low: number, high: number): number[] {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const multiples = last - first <= MOST_DECADES ? [1, 2, 3, 4, 5, 6, 7, 8, 9] : [1];
  const stride = strideOf(low, high);
  const ticks: number[] = [];
  for (let power = Math.floor(first / stride) * stride; power <= last; power += stride) {
    for (const multiple of multiples) {
      const tick = Number(`${multiple}e${power}`);
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  return ticks;
}

/** Whether such a line has its number beside it. */
export function isNamed(tick: number, low: number, high: number): boolean {
  const [leading, power] = tick.toExponential(6).split("e").map(Number) as [number, number];
  if (Math.log10(high) - Math.log10(low) > 1.5) return leading === 1 && power % strideOf(low, high) === 0;
  return [1, 2, 5].includes(leading);
}

function strideOf(low: number, high: number): number {
  return Math.max(1, Math.ceil((Math.log10(high) - Math.log10(low)) / MOST_POWERS));
}
