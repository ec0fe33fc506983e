"""Views: a run as people see it: curves, findings and budgets in a terminal, a picture or a notebook."""
