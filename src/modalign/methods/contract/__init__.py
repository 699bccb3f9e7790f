"""What every method keeps to: how it is called, what it reads, how it chooses."""
