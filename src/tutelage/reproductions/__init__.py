"""Reproductions: one file per claim of a paper, measured again on real data; `results/` holds what was found."""
