"""``swarmctl doctor``: facts are gathered side by side, each in bounded time, and judged."""
