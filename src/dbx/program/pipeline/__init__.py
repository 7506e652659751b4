"""The recorded steps as one differentiable function."""
