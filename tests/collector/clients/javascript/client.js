// What a program in JavaScript sends by OpenTelemetry's own SDK: every kind of metric, a log record, an event, spans.
//   node client.js grpc|http/protobuf|http/json       where to: OTEL_EXPORTER_OTLP_ENDPOINT
"use strict";
const { context, trace, SpanKind, SpanStatusCode } = require("@opentelemetry/api");
const { SeverityNumber } = require("@opentelemetry/api-logs");
const { resourceFromAttributes } = require("@opentelemetry/resources");
const { AggregationType, MeterProvider, PeriodicExportingMetricReader } = require("@opentelemetry/sdk-metrics");
const { BatchLogRecordProcessor, LoggerProvider } = require("@opentelemetry/sdk-logs");
const { BasicTracerProvider, BatchSpanProcessor } = require("@opentelemetry/sdk-trace-base");

const kind = { grpc: "grpc", "http/protobuf": "proto", "http/json": "http" }[process.argv[2]];
const { OTLPMetricExporter } = require(`@opentelemetry/exporter-metrics-otlp-${kind}`);
const { OTLPLogExporter } = require(`@opentelemetry/exporter-logs-otlp-${kind}`);
const { OTLPTraceExporter } = require(`@opentelemetry/exporter-trace-otlp-${kind}`);

const resource = resourceFromAttributes({ "service.name": "shop", "service.instance.id": process.argv[2] });

async function main() {
  const metrics = new MeterProvider({
    resource,
    readers: [new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter(), exportIntervalMillis: 3_600_000 })],
    views: [{ instrumentName: "basket.size", aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM } }],
  });
  const meter = metrics.getMeter("shop");
  meter.createGauge("temperature", { unit: "Cel" }).record(21.5, { room: "été", floor: 2, open: true });
  meter.createCounter("orders", { unit: "{order}" }).add(3);
  meter.createUpDownCounter("queue.depth").add(-2);
  const took = meter.createHistogram("took", { unit: "s", advice: { explicitBucketBoundaries: [0.5, 2] } });
  for (const seconds of [0.25, 1, 1.5, 8]) took.record(seconds);
  const size = meter.createHistogram("basket.size");
  for (const things of [0, 1, 4, 4]) size.record(things);

  const traces = new BasicTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())] });
  const tracer = traces.getTracer("shop", "1.2.3");
  const start = 1_700_000_000_123;
  const parent = tracer.startSpan("GET /cart", { kind: SpanKind.SERVER, startTime: start });
  const inside = trace.setSpan(context.active(), parent);
  const child = tracer.startSpan("query", { startTime: start, attributes: { rows: 7, tables: ["a", "b"] } }, inside);
  child.addEvent("retried", { times: 2 }, start + 1);
  child.setStatus({ code: SpanStatusCode.ERROR, message: "no such table" });
  child.end(start + 250);
  parent.end(start + 500);

  const logs = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter() })] });
  const logger = logs.getLogger("shop");
  const warning = { severityNumber: SeverityNumber.WARN, severityText: "warning", timestamp: start };
  logger.emit({ ...warning, body: "¡café! 🛒", attributes: { user: "ana", n: 3 }, context: inside });
  logger.emit({ eventName: "checkout", timestamp: start + 1, body: { total: 9.5, paid: true } });

  await Promise.all([metrics.shutdown(), traces.shutdown(), logs.shutdown()]); // sends what is there
  const { traceId, spanId } = parent.spanContext();
  console.log(JSON.stringify({ trace_id: traceId, span_id: spanId, child_id: child.spanContext().spanId }));
}

main();
