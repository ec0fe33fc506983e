// Findings: the alerts of the runs that are shown, as a list that leads to their places.

import { el } from "./dom";
import { moment, runName } from "./format";
import type { Facts, Finding } from "./source";

export interface FindingEvents {
  open(run: string, finding: Finding): void;
}

const MOST = 200;

export class FindingList {
  readonly root: HTMLDetailsElement;
  private readonly summary = el("summary");
  private readonly list = el("ul", { class: "findings" });
  private told = "";

  constructor(private readonly events: FindingEvents) {
    this.root = el("details", { class: "found-list", open: true }, [this.summary, this.list]);
  }

  draw(facts: Facts[], levels: Record<string, string>): void {
    const all = facts.flatMap((one) => one.findings.map((finding) => ({ run: one.run, finding })));
    all.sort((a, b) => b.finding.at.localeCompare(a.finding.at));
    const told = JSON.stringify([facts.length > 1, all]);
    if (told === this.told) return;
    this.told = told;
    this.root.hidden = !all.length;
    this.summary.textContent = `▲ ${all.length} ${all.length === 1 ? "finding" : "findings"}`;
    this.list.replaceChildren(
      ...all.slice(0, MOST).map(({ run, finding }) => {
        const sign = el("span", { class: "sign" }, "▲");
        sign.style.color = levels[finding.level] ?? "";
        const where = [
          finding.step !== null ? `step ${finding.step}` : finding.epoch !== null ? `epoch ${finding.epoch}` : "",
          facts.length > 1 ? runName(run) : "",
          finding.count > 1 ? `${finding.count} times` : "",
          finding.state === "firing" ? "still firing" : "",
          moment(finding.at),
        ].filter(Boolean);
        const button = el("button", { type: "button", class: "plain" }, [
          sign,
          el("b", {}, finding.name),
          ` ${finding.summary} `,
          el("span", { class: "dim" }, where.join(" · ")),
        ]);
        button.addEventListener("click", () => this.events.open(run, finding));
        return el("li", { title: finding.level }, [button]);
      }),
      all.length > MOST ? el("li", { class: "dim" }, `… ${all.length - MOST} more`) : "",
    );
  }
}
