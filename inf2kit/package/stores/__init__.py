"""Where packages lie: a folder or a bucket. ``locations`` reads what people write."""
