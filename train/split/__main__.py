"""`python -m uprank.train.split`."""

from .command import main

if __name__ == "__main__":
    main()
