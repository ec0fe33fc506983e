"""What goes into a meter provider: ours, or one that you build with OpenTelemetry's SDK."""

from entrenar_otel.monitor.reader import TrainingMetricReader
from entrenar_otel.otel.metrics.exemplar_views import training_views
from entrenar_otel.otel.metrics.meter import TrainingMeterProvider

__all__ = ["TrainingMeterProvider", "TrainingMetricReader", "training_views"]
