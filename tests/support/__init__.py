"""What several test files share: small models and runs, made run folders, and how the program is started."""
