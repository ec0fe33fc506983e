// Gestures: pan and zoom by the mouse, its wheel and a trackpad, beside the drag that chooses a part.

export type Range = [number, number];

export interface Glide {
  /** What is shown, and whether that is a part. */
  range(): { shown: Range; isPart: boolean };
  /** Show this instead; it comes with each frame. */
  show(range: Range): void;
}

/** So many pixels a turn of the wheel counts for at most: a notch is a hundred, of a pinch a few. */
const MOST_PINCHED = 25;
/** Of a wheel that tells lines or pages instead of pixels. */
const PIXELS = [1, 16, 400];

/** A range moved by a share of its width; some of `whole` stays in sight. */
export function moved([from, to]: Range, share: number, whole: Range | null): Range {
  const width = to - from;
  const room = width * share;
  const kept = width * 0.1;
  let low = from + room;
  if (whole) low = Math.min(Math.max(low, Math.min(from, whole[0] + kept - width)), Math.max(from, whole[1] - kept));
  return [low, low + width];
}

/** A range `factor` times as wide, whose place at a share of the width stays where it is. */
export function scaled([from, to]: Range, share: number, factor: number, least: number): Range {
  const fixed = from + (to - from) * share;
  const width = Math.max((to - from) * factor, least);
  return [fixed - width * share, fixed + width * (1 - share)];
}

/** Whether a press begins a pan: the middle button, or the first with shift. */
export function isPan(event: MouseEvent): boolean {
  return event.button === 1 || (event.button === 0 && event.shiftKey);
}

export function follow(over: HTMLElement, whole: () => Range | null, least: () => number, to: Glide): void {
  let start: { x: number; range: Range } | null = null;
  const end = () => {
    start = null;
    over.classList.remove("panned");
  };
  over.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch" || !isPan(event) || !to.range().isPart) return;
    over.setPointerCapture(event.pointerId);
    over.classList.add("panned");
    start = { x: event.clientX, range: to.range().shown };
  });
  over.addEventListener("pointermove", (event) => {
    if (start) to.show(moved(start.range, (start.x - event.clientX) / (over.clientWidth || 1), whole()));
  });
  over.addEventListener("pointerup", end);
  over.addEventListener("lostpointercapture", end);
  // no scrolling by the middle button, no selection by shift
  over.addEventListener("mousedown", (event) => isPan(event) && event.preventDefault());
  over.addEventListener(
    "wheel",
    (event) => {
      const { shown, isPart } = to.range();
      const unit = PIXELS[event.deltaMode] ?? 1;
      const [across, down] = [event.deltaX * unit, event.deltaY * unit];
      if (event.ctrlKey || event.metaKey) {
        const share = event.offsetX / (over.clientWidth || 1);
        to.show(scaled(shown, share, Math.exp(Math.max(-MOST_PINCHED, Math.min(MOST_PINCHED, down)) / 100), least()));
      } else if (isPart && (event.shiftKey || Math.abs(across) > Math.abs(down))) {
        to.show(moved(shown, (across || down) / (over.clientWidth || 1), whole()));
      } else return; // the page scrolls
      event.preventDefault();
    },
    { passive: false },
  );
}
