"""Settings of other programs, so that they ask this host: what they take, and writing it reversibly."""
