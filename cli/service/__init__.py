"""This host as a service of its operating system: described once, written for each, installed, removed."""
