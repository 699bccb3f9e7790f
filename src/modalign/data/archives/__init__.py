"""Images inside zip and tar files."""
