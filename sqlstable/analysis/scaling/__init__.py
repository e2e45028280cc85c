"""Many runs of one script: how what they take grows with a size, and which settings are best."""
