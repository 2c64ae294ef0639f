"""From a run folder to a verified, documented model folder."""
