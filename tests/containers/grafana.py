"""Grafana by its API, as its browsers use it: dashboards, and what each panel asks for."""

from __future__ import annotations

from typing import Any

import httpx

from tests.collector.process import SECONDS

#: What browsers fill in; what begins with `$__` Grafana itself does.
_VARIABLES = {"$run": ".*", "$model": ".*", "$rank": ".*"}


class Grafana:
    """The one at this address, of whoever is not logged in."""

    def __init__(self, address: str, transport: httpx.BaseTransport | None = None) -> None:
        url = f"http://{address}/api"
        self.client = httpx.Client(base_url=url, timeout=SECONDS, trust_env=False, transport=transport)

    def dashboards(self) -> dict[str, dict[str, Any]]:
        """What it has found, by uid."""
        found = self.client.get("/search", params={"type": "dash-db"}).raise_for_status().json()
        return {one["uid"]: self._dashboard(one["uid"]) for one in found}

    def _dashboard(self, uid: str) -> dict[str, Any]:
        told = self.client.get(f"/dashboards/uid/{uid}").raise_for_status().json()
        assert told["meta"]["provisioned"], uid
        made: dict[str, Any] = told["dashboard"]
        return made

    def answers(self, targets: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """What a panel is answered, by the letter of its query."""
        queries = [
            {**one, "expr": _filled(one["expr"]), "datasource": {"type": "prometheus", "uid": "prometheus"},
             "intervalMs": 5000, "maxDataPoints": 500}
            for one in targets
        ]  # fmt: skip
        asked = {"queries": queries, "from": "now-15m", "to": "now"}
        told = self.client.post("/ds/query", json=asked)
        results: dict[str, dict[str, Any]] = told.json().get("results", {})
        for one in targets:  # where there is a word of none, it is the whole that failed
            results.setdefault(one["refId"], {"error": told.text, "status": told.status_code})
        return results

    def problems(self, dashboard: dict[str, Any]) -> list[str]:
        """Panels and annotations of it that Grafana cannot ask for, and what it says."""
        asked = [(one["title"], one["targets"]) for one in dashboard["panels"] if one["type"] != "row"]
        asked += [
            (one["name"], [one["target"]]) for one in dashboard["annotations"]["list"] if "target" in one
        ]
        return [
            f"{title} {letter}: {answer.get('error') or answer}"
            for title, targets in asked
            for letter, answer in self.answers(targets).items()
            if "error" in answer or answer.get("status") != 200 or not answer.get("frames")
        ]


def _filled(expression: str) -> str:
    for name, value in _VARIABLES.items():
        expression = expression.replace(name, value)
    return expression
