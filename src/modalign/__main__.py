"""``python -m modalign``."""

from modalign.cli import main

if __name__ == "__main__":
    main()
