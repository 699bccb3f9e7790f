"""What every other part rests on: errors, vectors, files, names as text. It imports nothing of ours."""
