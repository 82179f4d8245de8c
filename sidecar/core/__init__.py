"""Decisions of the data plane as pure functions of values: no clock, no loop, no draw of their own."""
