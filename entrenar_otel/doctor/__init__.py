"""Doctor: what is installed here, where things lie and lead to, what is on, and what it costs."""
