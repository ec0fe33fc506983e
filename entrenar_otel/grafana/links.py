"""Links: where the documentation is read that dashboards and rules refer to."""

_DOCS = "https://github.com/entrenar-otel/entrenar-otel/blob/main/docs"
#: What alerts mean and what to do about them; `#` and a heading follow.
RUNBOOK = f"{_DOCS}/grafana.md"
#: How to draw every step of a run: `entrenar-otel plot`.
PICTURE = f"{_DOCS}/watch.md#a-picture"


def what_to_do(heading: str) -> str:
    """A link to a heading of the runbook, for a panel's description.

    >>> what_to_do("TrainingStalled").partition("docs/")[2]
    'grafana.md#trainingstalled)'
    """
    return f"[what to do]({RUNBOOK}#{heading.lower()})"
