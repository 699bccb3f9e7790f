"""What the five papers print: their settings, their numbers, and what it takes to make each number here."""
