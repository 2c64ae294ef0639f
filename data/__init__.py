"""From rows on disk to groups and encoded pairs."""
