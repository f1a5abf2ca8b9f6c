"""Many runs in, one comparison out: trials, MLflow, figures and the page."""
