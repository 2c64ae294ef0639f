"""`python -m uprank.train.mine`, as launchers start it."""

from .command import main

if __name__ == "__main__":
    main()
