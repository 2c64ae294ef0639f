"""One committed file per reported result."""
