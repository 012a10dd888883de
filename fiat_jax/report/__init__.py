"""The page that a comparison leaves, `report.html`, made from `results.json` and `predictions/` alone."""
