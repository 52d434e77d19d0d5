"""Many runs: what is planned, what has become of it, where it runs."""
