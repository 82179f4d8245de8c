"""Decisions, pure: values and clock readings in, values out."""
