"""What a machine is made of, as its system and drivers tell. What they don't tell is unknown."""
