"""Quality of cells and genes: metrics, filters, weights, and samples of cells or counts."""
