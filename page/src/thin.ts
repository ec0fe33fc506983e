// Thin: as many points as a picture has columns; what sticks out is among them. As views/curve.py does it.

/** Of each stretch the first, last, least, greatest and the first that is not finite, in order. */
export function extremes(values: Float64Array, columns: number, from = 0, to = values.length): Uint32Array {
  const n = to - from;
  const size = Math.floor(n / Math.max(1, columns));
  if (size < 6) return Uint32Array.from({ length: n }, (_, at) => from + at);
  const kept = new Uint32Array(Math.ceil(n / size) * 5 + size);
  let count = 0;
  const whole = from + n - (n % size);
  for (let start = from; start < whole; start += size) {
    const end = start + size;
    let least = -1;
    let most = -1;
    let odd = -1;
    let low = Infinity;
    let high = -Infinity;
    for (let at = start; at < end; at++) {
      const value = values[at]!;
      if (value - value !== 0) {
        if (odd < 0) odd = at;
        continue;
      }
      if (value < low) {
        low = value;
        least = at;
      }
      if (value > high) {
        high = value;
        most = at;
      }
    }
    const picked = [start, least, most, odd, end - 1].filter((at) => at >= 0).sort((a, b) => a - b);
    let last = -1;
    for (const at of picked) {
      if (at !== last) kept[count++] = last = at;
    }
  }
  for (let at = whole; at < to; at++) kept[count++] = at;
  return kept.subarray(0, count);
}

/** The mean of the finite ones among `window` values around each; what is not finite stays. */
export function smoothed(values: Float64Array, window: number): Float64Array {
  if (window <= 1) return values;
  const half = Math.floor(window / 2);
  const n = values.length;
  const means = new Float64Array(n);
  let sum = 0;
  let count = 0;
  let low = 0;
  let high = 0;
  for (let at = 0; at < n; at++) {
    for (; high < Math.min(n, at + half + 1); high++) {
      const value = values[high]!;
      if (Number.isFinite(value)) {
        sum += value;
        count++;
      }
    }
    for (; low < at - half; low++) {
      const value = values[low]!;
      if (Number.isFinite(value)) {
        sum -= value;
        count--;
      }
    }
    means[at] = Number.isFinite(values[at]!) ? sum / count : values[at]!;
  }
  return means;
}

/** The first place in rising numbers that is not before `wanted`. */
export function place(x: Float64Array, wanted: number): number {
  let low = 0;
  let high = x.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle]! < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}
