"""``python -m portnet`` is ``portnet``."""

from portnet.cli import main

if __name__ == "__main__":
    main()
