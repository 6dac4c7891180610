"""What things are called, in the same words everywhere."""
