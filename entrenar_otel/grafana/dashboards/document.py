"""The dashboards as files that Grafana imports, the same to the byte whenever they are made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from entrenar_otel.errors import ConfigError

if TYPE_CHECKING:
    from entrenar_processors.config.models import Config


def documents(settings: Config) -> dict[str, str]:
    """File name → text of each dashboard. Raises ConfigError without grafana-foundation-sdk.

    >>> from entrenar_processors.config.models import Config
    >>> list(documents(Config()))
    ['run.json', 'fleet.json', 'compare.json']
    """
    try:
        from grafana_foundation_sdk.cog.encoder import JSONEncoder
    except ImportError:
        raise ConfigError(
            "making dashboards needs grafana-foundation-sdk: pip install 'entrenar-otel[grafana]'"
        ) from None
    from entrenar_otel.grafana.dashboards.compare import compare_dashboard
    from entrenar_otel.grafana.dashboards.fleet import fleet_dashboard
    from entrenar_otel.grafana.dashboards.one_run import run_dashboard

    makers = {"run": run_dashboard, "fleet": fleet_dashboard, "compare": compare_dashboard}
    return {
        f"{name}.json": json.dumps(make(settings), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"
        for name, make in makers.items()
    }
