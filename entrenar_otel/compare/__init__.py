"""Compare: whether two runs, versions or configurations differ, by how much, and how sure that is."""
