"""The routes in use: the pushed table, this host's own endpoints, and what was learned since."""
