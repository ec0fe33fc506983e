"""What goes into a meter provider: ours, or one that you build with OpenTelemetry's SDK."""

from entrenar_otel.meter import TrainingMeterProvider
from entrenar_otel.reader import TrainingMetricReader
from entrenar_otel.views import training_views

__all__ = ["TrainingMeterProvider", "TrainingMetricReader", "training_views"]
