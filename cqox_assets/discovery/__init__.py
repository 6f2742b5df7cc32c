"""Discovery: which estimators suit the study, and why."""
