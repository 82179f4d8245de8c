"""What an instance does: the store's keys and values behind typed acts."""
