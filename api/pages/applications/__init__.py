"""Pages of applications: list, inbox of reviewers, form, one application with its decisions, official print."""
