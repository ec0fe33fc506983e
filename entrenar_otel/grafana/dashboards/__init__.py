"""Grafana's dashboards as code, by grafana-foundation-sdk."""

import contextlib
import warnings

# Its import recommends the next format of dashboards, which Grafana before 13 does not read.
with warnings.catch_warnings(), contextlib.suppress(ImportError):
    warnings.simplefilter("ignore", DeprecationWarning)
    import grafana_foundation_sdk.builders.dashboard
    import grafana_foundation_sdk.builders.prometheus  # noqa: F401
