"""What every process shares: names, errors, the route table, settings, credentials and the wire contract."""
