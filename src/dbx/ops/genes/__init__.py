"""Selection and scoring of genes."""
