"""``python -m modalign.cli``."""

from modalign.cli import main

if __name__ == "__main__":
    main()
