"""What goes into a meter provider: ours, or one that you build with OpenTelemetry's SDK."""

from entrenar_otel.metering.meter import TrainingMeterProvider
from entrenar_otel.metering.views import training_views
from entrenar_otel.reader import TrainingMetricReader

__all__ = ["TrainingMeterProvider", "TrainingMetricReader", "training_views"]
