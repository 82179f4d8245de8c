"""``swarmctl``: the person's and the script's tool. Nothing heavy is imported before a command needs it."""
