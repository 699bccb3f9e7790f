"""Reading and checking of the options that a command was given."""
