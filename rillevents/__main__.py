"""`python -m rillevents`: the same process as the console script."""

from __future__ import annotations

from rillevents.cli import main

if __name__ == "__main__":
    main()
