"""One module for each noun; ``cli.main`` imports a module when its command is called."""
