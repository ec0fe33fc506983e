// Run filter: the language of the filter above the list, the same as of `ls --filter` (entrenar_otel/lake/run_filter.py).

/** Words and comparisons: all must be met. */
const COMPARISON = /^([a-z_][^\s<>=!:]*)(<=|>=|!=|[<>=:])(.+)$/;
const SIGN = /\s*(<=|>=|!=|[<>=])\s*/g;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/;
/** What only SQL has, and so only `ls --filter`. */
const SQL = /['"()]|::|--|(^|\s)(or|not|in|like|is|between)(\s|$)/;

export class Filter {
  readonly words: string[];
  /** What to say where nothing is found, if it was meant for another place. */
  readonly refusal: string;

  constructor(text: string) {
    const lower = text.toLowerCase();
    this.words = lower.replace(SIGN, "$1").split(/\s+/).filter((word) => word && word !== "and");
    this.refusal = SQL.test(lower) ? "No run meets the filter. OR, quotes and brackets are SQL, which entrenar-otel ls --filter takes." : "";
  }

  /** By what a run has by name, and all of its texts; a name that it has not is a word. */
  meets(named: ReadonlyMap<string, unknown>, texts: string): boolean {
    const all = texts.toLowerCase();
    return this.words.every((word) => {
      const asked = COMPARISON.exec(word);
      if (!asked || !named.has(asked[1]!)) return all.includes(word);
      return compare(named.get(asked[1]!), asked[2]!, asked[3]!);
    });
  }
}

function compare(value: unknown, sign: string, wanted: string): boolean {
  if (value === undefined || value === null) return false;
  const text = (typeof value === "string" ? value : JSON.stringify(value)).toLowerCase();
  const number = typeof value === "number" ? value : NUMBER.test(text) ? Number(text) : null;
  let order: number;
  if (number !== null) {
    const other = NUMBER.test(wanted) ? Number(wanted) : NaN;
    if (Number.isNaN(other)) return sign === "!=";
    order = number === other ? 0 : number - other;
  } else order = text === wanted ? 0 : text < wanted ? -1 : 1;
  if (sign === "=" || sign === ":") return order === 0;
  if (sign === "!=") return order !== 0;
  return sign === "<" ? order < 0 : sign === ">" ? order > 0 : sign === "<=" ? order <= 0 : order >= 0;
}
