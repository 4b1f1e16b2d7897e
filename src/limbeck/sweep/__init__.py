"""Many runs of one recipe: which they are, and doing them one after another."""
