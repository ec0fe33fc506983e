"""Records: who ran what, and what is known of its life."""
