"""`python -m uprank.train.check`, as launchers start it."""

from .command import main

if __name__ == "__main__":
    main()
