"""One loop, one session around it; what is trained is the objective."""
