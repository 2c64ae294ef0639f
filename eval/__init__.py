"""Candidates, rankings, measures, comparison and report; never imports training."""
