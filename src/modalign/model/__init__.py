"""What a user keeps: adaptation, the classifier, its answers, its files."""
