"""``python -m sqlstable`` is the command ``sqlstable``."""

from sqlstable.cli import main

if __name__ == "__main__":
    main()
