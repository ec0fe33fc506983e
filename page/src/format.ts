// Format: numbers and times for people.

export function number(value: unknown): string {
  if (typeof value === "string") return value === "-Infinity" ? "-∞" : value === "Infinity" ? "∞" : value;
  if (typeof value !== "number") return "–";
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "-∞";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace(/\.?0*e\+?/, "e");
  if (Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(4)));
}

const STEPS = new Intl.NumberFormat("en-US", { maximumFractionDigits: 2 });

/** A place among steps: every digit of it, since neighbours among millions differ in the last. */
export function step(value: number): string {
  return STEPS.format(value);
}

export function duration(seconds: number | null | undefined): string {
  if (seconds == null) return "–";
  if (seconds < 10) return `${Math.round(seconds * 10) / 10} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (h >= 48) return `${Math.floor(h / 24)} d ${h % 24} h`;
  return h ? `${h} h ${m} min` : `${m} min ${s} s`;
}

/** A run in a list: of an id that was made for it, without its date and time, which all begin with. */
export function runName(id: string): string {
  return id.replace(/^\d{8}-\d{6}-(?=[a-z]+-[0-9a-f]{6}$)/, "");
}

/** On an axis: short, of one form for each size. */
export function clock(seconds: number): string {
  const sign = seconds < 0 ? "-" : "";
  const left = Math.abs(seconds);
  if (left < 60) return `${sign}${Number(left.toPrecision(4))}s`;
  const [h, m, s] = [Math.floor(left / 3600), Math.floor(left / 60) % 60, Math.round(left % 60)];
  const two = (part: number) => String(part).padStart(2, "0");
  return h ? `${sign}${h}:${two(m)}h` : `${sign}${m}:${two(s)}`;
}

export function moment(text: string): string {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return text;
  const two = (part: number) => String(part).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

/** A setting of a run, on one line. */
export function setting(value: unknown): string {
  if (value === undefined) return "";
  if (typeof value === "number") return number(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}
