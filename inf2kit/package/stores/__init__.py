"""Where packages are stored: a folder or an S3 bucket. ``locations`` opens the one that a user names."""
