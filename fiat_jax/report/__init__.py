"""The page that a comparison leaves, `report.html`: made from a run folder's `results.json` and `predictions/` alone."""
