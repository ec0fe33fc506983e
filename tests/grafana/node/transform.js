// What Grafana makes of answers of Prometheus: the frames of its data source, and after them a panel's transformations.
// On stdin a list of panels: {targets: [a query of the dashboard, with its `answer`], transformations}; on stdout for
// each its frames: {fields: [{name, type, values}], ascends: which fields rise, as the panel Trend looks at them}.
// The data source itself is not a library of Node; which names and columns its frames have is written down here.
const { readFileSync } = require("node:fs");
const grafana = require("./browser.js");

const byId = new Map(Object.values(grafana.standardTransformers).map((one) => [one.id, one])); // one has two names
for (const [id, one] of byId) {
  grafana.standardTransformersRegistry.register({ id, name: one.name, transformation: async () => one });
}

const number = (text) => ({ "+Inf": Infinity, "-Inf": -Infinity })[text] ?? Number(text);
const column = (name, type, values, more = {}) => ({ name, type, values, config: {}, ...more });

// A frame for each series; one without fields where there is none.
function series({ refId, legendFormat, answer }) {
  const frames = answer.map(({ metric, values, value }) => {
    const points = values ?? [value];
    const isAuto = !legendFormat || legendFormat === "__auto";
    const legend = isAuto ? undefined : legendFormat.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => metric[label] ?? "");
    const times = column("Time", "time", points.map(([seconds]) => seconds * 1000));
    const numbers = points.map(([, text]) => number(text));
    const config = { displayNameFromDS: legend };
    const fields = [times, column("Value", "number", numbers, { labels: metric, config })];
    return { refId, name: legend, fields, length: points.length };
  });
  return frames.length ? frames : [{ refId, fields: [], length: 0 }];
}

// One frame for each query: time, a column for each label, and the value, with the query's letter if it is not alone.
function tables(queries) {
  const made = queries.map((query) => [query, series(query)]);
  if (made.length === 1 && made[0][1][0].length === 0) return made[0][1];
  return made.map(([{ refId, answer }, frames]) => {
    const labels = [...new Set(answer.flatMap(({ metric }) => Object.keys(metric).sort()))];
    const rows = frames.flatMap((frame) =>
      Array.from({ length: frame.length }, (_, row) => ({
        time: frame.fields[0].values[row],
        value: frame.fields[1].values[row],
        labels: frame.fields[1].labels,
      })),
    );
    rows.sort((a, b) => a.time - b.time);
    const fields = [
      column("Time", "time", rows.map(({ time }) => time)),
      ...labels.map((label) => column(label, "string", rows.map((row) => row.labels[label] ?? ""))),
      column(made.length > 1 ? `Value #${refId}` : "Value", "number", rows.map(({ value }) => value)),
    ];
    return { refId, fields, length: rows.length };
  });
}

async function transformed({ targets, transformations }) {
  for (const { id } of transformations) grafana.standardTransformersRegistry.get(id); // Grafana skips an unknown one
  const asTables = targets.filter(({ format }) => format === "table");
  const others = targets.filter(({ format }) => format !== "table");
  const frames = [...others.flatMap(series), ...(asTables.length ? tables(asTables) : [])];
  const after = await new Promise((resolve, reject) =>
    grafana.transformDataFrame(transformations, frames).subscribe({ next: resolve, error: reject }),
  );
  return after.map((frame) => ({
    fields: frame.fields.map((field) => ({
      name: grafana.getFieldDisplayName(field, frame, after),
      type: field.type,
      values: Array.from(field.values, (value) => (Number.isNaN(value) ? "NaN" : value)),
      ascends: grafana.isLikelyAscendingVector(field.values),
    })),
  }));
}

Promise.all(JSON.parse(readFileSync(0, "utf8")).map(transformed)).then((made) =>
  process.stdout.write(JSON.stringify(made)),
);
