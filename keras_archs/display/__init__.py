"""Output for a terminal, a notebook and an HTML page."""
