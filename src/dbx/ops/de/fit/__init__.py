"""Size factors and the fit of the model, outliers included."""
